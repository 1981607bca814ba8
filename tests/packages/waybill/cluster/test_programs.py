"""What the cluster's programs are built from."""

import re
from pathlib import Path

from waybill.cluster.programs import TARGETS

_APART = {"sigs.k8s.io/knftables"}
"""Calico does not compile with the one that Kubernetes needs."""


def test_what_is_compiled_for_kubernetes_serves_calico_as_well() -> None:
    """The same versions of what both use: another one of a single module compiles it all twice."""
    ours, theirs = (_versions(TARGETS[name].module) for name in ("Kubernetes", "Calico"))

    common = ours.keys() & theirs.keys()

    assert len(common) > len(theirs) / 3
    assert {name for name in common if ours[name] != theirs[name]} == _APART


def _versions(module: Path) -> dict[str, str]:
    """The path of each module → what is taken for it, replacements included."""
    lines = (module / "go.mod").read_text()
    required = re.findall(r"^\s+(\S+) (v\S+)", lines, re.MULTILINE)
    replaced = re.findall(r"^\s*(?:replace )?(\S+) => (\S+ v\S+)", lines, re.MULTILINE)
    versions = {name: f"{name} {version}" for name, version in required}
    return versions | {name: new for name, new in replaced if name in versions}
