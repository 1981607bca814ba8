"""How the processes of a node are told to behave, and whether it is ready."""

import sys
from pathlib import Path

import pytest
from waybill.cluster.node import Node
from waybill.cluster.programs import Programs
from waybill.project import Project

_KUBECTL = """\
#!/bin/sh
cat {answer}
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """In a folder with a space; its kubectl prints what lies in `answer`."""
    project = Project(tmp_path / "my checkout")
    project.state.mkdir(parents=True)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(_KUBECTL.format(answer=tmp_path / "answer"))
    kubectl.chmod(0o755)
    program = Path(sys.executable)
    return Node(project, Programs({"kubectl": kubectl, "coredns": program, "runc": program}))


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [
        ("", False),
        ('{"status": {}}', False),
        ('{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}', False),
        ('{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}', True),
    ],
)
async def test_a_node_is_ready_once_it_is_known_and_says_so(
    node: Node, tmp_path: Path, answer: str, *, is_ready: bool
) -> None:
    (tmp_path / "answer").write_text(answer)
    assert await node.is_ready() == is_ready


def test_a_path_with_a_space_is_one_word_to_the_dns(node: Node) -> None:
    corefile = Path(node.dns().command.argv[-1])
    assert f'kubeconfig "{node.kubeconfig}"\n' in corefile.read_text()
