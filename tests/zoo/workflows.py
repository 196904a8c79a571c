"""What the three tests in the zoo's style share; the zoo's own ``ci/unit_tests/utils.py`` has the like of it."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar

from monai.bundle import ConfigWorkflow

from ufc_monai.phantom import make_phantom

BUNDLES = Path(os.environ.get("UFC_BUNDLES", Path(__file__).parents[2] / "bundles"))
"""In a checkout of the zoo: its folder ``models``."""
SIZE = {"image_size": 32, "threads": 1}
WIDTHS = {"features": [4, 4, 8, 8, 16, 4], "norm": "batch"}


class BundleTest(unittest.TestCase):
    """Five tiny patients, and a folder that takes whatever the bundle would write into its own."""

    bundle: ClassVar[str]
    folder: ClassVar[Path]
    temporary: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        make_phantom(cls.folder / "data", patients=5, matrix=40)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.temporary.cleanup()

    def setUp(self) -> None:
        self.place = self.folder / self._testMethodName

    def check(self, configs: str, workflow_type: str, **overrides: Any) -> ConfigWorkflow:
        """Initialise, check, run and finalise a workflow."""
        root = BUNDLES / self.bundle
        before = contents(root)
        files = [str(root / "configs" / f"{name}.json") for name in configs.split("+")]
        places = {
            "dataset_dir": self.folder / "data",
            "output_dir": self.place / configs,
            "cache_dir": self.folder / "cache",
        }
        workflow = ConfigWorkflow(
            workflow_type=workflow_type,
            config_file=files,
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=False,
            bundle_root=str(root),
            **{key: str(value) for key, value in places.items()},
            **overrides,
        )
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow.run()
        workflow.finalize()
        assert contents(root) == before
        return workflow

    def trained(self, **also: Any) -> dict[str, Any]:
        """Where a training of this test leaves its weights, and its split."""
        return {"ckpt_dir": str(self.place / "models"), "split_path": str(self.place / "split.json"), **also}


def contents(root: Path) -> dict[str, int]:
    """The files of a bundle and when they were written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}
