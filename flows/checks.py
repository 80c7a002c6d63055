"""What can be seen to be wrong before the first image is read: names that mean nothing, regions of other images."""

from pathlib import Path

import pyarrow as pa

from annotation.controls import read_controls
from annotation.opt_out import check_attributes
from editing.insertions import check_insertions
from editing.manifest import read_manifest
from flows.engine.progress import report_progress
from flows.pipeline import ORDER
from flows.settings import Settings
from flows.values import targets_of
from policies.engine import PolicySet
from storage.errors import FatalError


def check_names(settings: Settings, policies: PolicySet) -> None:
    """Raises FatalError for a policy, an attribute, a stage or a file of control items that does not exist, and for an
    attribute that insertions must not draw."""
    check_insertions(settings.editing.controls.insert, targets_of(settings, policies), policies.vocabulary)
    settings.ray.check_stages(ORDER)
    check_attributes(settings.annotation.opt_outs, policies.vocabulary)
    if settings.annotation.controls is not None:
        read_controls(settings.annotation.controls)


def listed(manifest: Path | None, files: pa.Table) -> int | None:
    """How many of a source's files the manifest of regions lists, None without a manifest.

    Raises FatalError where it lists none: a build would refuse each image.
    """
    if manifest is None:
        return None
    regions = read_manifest(manifest)
    names = sorted(regions.files)
    count = sum(regions.lists(key) for batch in files["key"].chunks for key in batch.to_pylist())
    if not count:
        raise FatalError(
            f"The manifest {manifest} lists none of the {files.num_rows} files of the input. It lists {names[0]}, for "
            f"example, and the input has {files['key'][0]}. Name files as they are called below the input folder."
        )
    return count


def tell_listed(manifest: Path | None, files: pa.Table) -> None:
    """As `listed`; whoever follows the build's progress sees the number."""
    count = listed(manifest, files)
    if count is not None:
        report_progress("manifest", count, files.num_rows)
