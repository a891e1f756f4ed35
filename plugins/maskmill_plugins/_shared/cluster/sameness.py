"""Whether a slot on another machine will give the same results as this one, to the last bit."""

from __future__ import annotations

from maskmill.run.slot import SlotAbout

_MUST_BE_SAME = "maskmill"


def compare_slots(there: SlotAbout, here: SlotAbout) -> tuple[str, list[str]]:
    """How a slot's machine differs from the driver's.

    Args:
        there: of the slot.
        here: of the driver.

    Returns:
        Why the slot must not be used, or ""; and what may make the last bits of results differ, each to be put behind
        the name of the machine and "has".
    """
    versions = [_MUST_BE_SAME, *sorted((there.versions.keys() | here.versions.keys()) - {_MUST_BE_SAME})]
    differing = [name for name in versions if there.versions.get(name) != here.versions.get(name)]
    if _MUST_BE_SAME in differing:
        versions_found = f"maskmill {there.versions.get(_MUST_BE_SAME)}, this machine {here.versions[_MUST_BE_SAME]}"
        return f"{there.host} has {versions_found}: install the same version on all machines", []
    warnings = []
    if differing:
        listed = ", ".join(
            f"{name} {there.versions.get(name, 'not installed')} instead of {here.versions.get(name, 'none')}"
            for name in differing
        )
        warnings.append(f"{listed}; its results may differ from this machine's in their last bits")
    if there.processor != here.processor:
        warnings.append(
            f"another processor ({there.processor}) than this machine ({here.processor});"
            " its results may differ in their last bits"
        )
    return "", warnings
