"""What a cluster is asked, in which order. Programs that take notes stand in for the real ones."""

from pathlib import Path

import pytest
from waybill.cluster import deploy
from waybill.cluster.deploy import Target
from waybill.cluster.kubectl import Kubectl
from waybill.errors import PlatformError
from waybill.progress import Board
from waybill.project import Project

SCRIPT = """\
#!/bin/sh
cd {folder}
echo "$*" >> asked
case "{program} $*" in
    "kubectl kustomize"*) [ -e {folder}/k8s ] || {{ echo "no such overlay" >&2; exit 1; }} ;;
    "kubectl get crd"*) cat known 2>/dev/null || true ;;
    *"--dry-run"*) ;;
    "kubectl apply --server-side --force-conflicts"*) echo components.dapr.io > known ;;
    "kubectl get "*"--output json") echo '{{"items": []}}' ;;
    "helm upgrade"*) [ -e known ] || {{ echo "no matches for kind" >&2; exit 1; }} ;;
esac
"""
APPLY = "apply --server-side --force-conflicts --filename -"
LOOKS = {"get", "kustomize", "show", "wait"}


@pytest.fixture
def target(checkout: Project) -> Target:
    """A cluster without Dapr."""
    programs: list[str] = []
    for name in ("kubectl", "helm"):
        program = checkout.root / name
        program.write_text(SCRIPT.format(folder=checkout.root, program=name))
        program.chmod(0o755)
        programs.append(str(program))
    kubectl, helm = programs
    overlay = Path("k8s/overlays/dev")
    (checkout.root / overlay).mkdir(parents=True)
    return Target(checkout, Kubectl(kubectl, ()), [helm], ["chart"], ["--set=a=b"], overlay)


def asked(target: Target) -> list[str]:
    """Without what only looks."""
    lines = (target.project.root / "asked").read_text().splitlines()
    return [line for line in lines if line.split()[0] not in LOOKS]


def is_dry(line: str) -> bool:
    return "--dry-run=server" in line or line.startswith("template")


async def test_a_bare_cluster_learns_the_kinds_before_the_chart_uses_them(target: Target) -> None:
    await deploy.deploy(target, Board())
    done = [line for line in asked(target) if not is_dry(line)]
    assert done[0].startswith(APPLY)
    assert done[1].startswith("upgrade dapr chart --set=a=b")
    assert done[-1] == APPLY


async def test_each_part_is_tried_before_it_is_done(target: Target) -> None:
    await deploy.deploy(target, Board())
    dry = [is_dry(line) for line in asked(target) if not line.startswith("create namespace")]
    assert dry == [True, True, False, False, True, False, False]


async def test_a_dry_run_on_a_bare_cluster_changes_nothing(target: Target) -> None:
    board = Board()
    await deploy.try_out(target, board)
    assert all(is_dry(line) for line in asked(target))
    assert "left out" in board.stages[-1].detail


async def test_a_dry_run_where_dapr_is_asks_the_api_server_about_everything(target: Target) -> None:
    (target.project.root / "known").write_text("components.dapr.io\n")
    await deploy.try_out(target, Board())
    *tried, last = asked(target)
    assert "upgrade" in tried[1]
    assert last == f"{APPLY} --dry-run=server"
    assert is_dry(tried[1])


async def test_an_overlay_that_cannot_be_read_changes_nothing(target: Target) -> None:
    (target.project.root / "k8s").rename(target.project.root / "elsewhere")
    with pytest.raises(PlatformError, match="no such overlay"):
        await deploy.deploy(target, Board())
    assert asked(target) == []


async def test_what_a_program_complains_of_is_told(target: Target) -> None:
    with pytest.raises(PlatformError, match="`helm upgrade` failed:\nno matches for kind"):
        await deploy.output(*target.helm, "upgrade")
