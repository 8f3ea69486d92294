"""Writes which libraries the packages are made of, and of which wheels, as a CycloneDX document.

    sbom.py FILE COMMIT TIME     TIME in seconds since 1970; the same arguments give the same bytes

It describes the wheels in build/wheels that the packages were built from. The document is checked
against the schema. Needs cyclonedx-python-lib, the extra `release` of pyproject.toml.
"""

import email
import hashlib
import sys
import uuid
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import stage
import version
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

WHEELS: Final = stage.ROOT / "build/wheels"
LICENSES: Final = LicenseFactory()


def current_wheels(cache: Path) -> list[Path]:
    """The wheels of the present pins, for all versions of Python and machines, each name once."""
    key = stage.wheel_folder("", "", cache).name.rpartition("-")[2]
    found = {wheel.name: wheel for wheel in cache.glob(f"*-{key}/*.whl")}
    return [found[name] for name in sorted(found)]


def library(wheels: list[Path]) -> Component:
    """One library, with the checksum of each of its wheels."""
    with zipfile.ZipFile(wheels[0]) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(archive.read(metadata))
    name, number = fields["Name"], fields["Version"]
    license_name = fields["License-Expression"] or (fields["License"] or "").split("\n")[0]
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=number,
        bom_ref=f"{name}-{number}",
        purl=PackageURL("pypi", None, name.lower().replace("_", "-"), number),
        licenses=[LICENSES.make_from_string(license_name)] if license_name else [],
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(wheel.name),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest(wheel))],
            )
            for wheel in wheels
        ],
    )


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def document(wheels: list[Path], number: str, commit: str, time: int) -> str:
    """The document, as JSON."""
    by_library: dict[str, list[Path]] = defaultdict(list)
    for wheel in wheels:
        by_library[wheel.name.split("-")[0]].append(wheel)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"nicwatchd {number} {commit}"))
    bom.metadata.timestamp = datetime.fromtimestamp(time, UTC)
    bom.metadata.component = root = Component(
        type=ComponentType.APPLICATION,
        name="nicwatchd",
        version=number,
        bom_ref="nicwatchd",
        licenses=[LICENSES.make_from_string("Apache-2.0")],
        properties=[Property(name="nicwatchd:commit", value=commit)],
    )
    for each in by_library.values():
        component = library(each)
        bom.components.add(component)
        bom.register_dependency(root, [component])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def main() -> None:
    """Write it."""
    file, commit, time = sys.argv[1:]
    wheels = current_wheels(WHEELS)
    if not wheels:
        sys.exit(f"sbom: no wheels in {WHEELS}: build the packages first")
    text = document(wheels, version.package_version(), commit, int(time))
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom: not valid: {problem}")
    Path(file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
