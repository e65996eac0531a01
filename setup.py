"""What pyproject.toml cannot say: the wheel packs the files of a project, which stand in the repository's root."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# By its path: where a wheel is built, the package's own dependencies need not be.
_SHARED = runpy.run_path(str(ROOT / "src/spacewarps/project_files.py"))
PROJECT_FILES, PACKED = _SHARED["PROJECT_FILES"], _SHARED["PACKED"]


class BuildWithProject(build_py):
    """Build the package with the files that ``spacewarps init`` writes."""

    def run(self) -> None:
        """Build as ever, then copy the files; an editable install reads them from the repository."""
        super().run()
        if not self.editable_mode:
            for source, target in self._packed().items():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target), preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """Name what a source distribution needs."""
        return [*super().get_source_files(), *PROJECT_FILES]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name what is built."""
        return [*super().get_outputs(include_bytecode), *map(str, self._packed().values())]

    def _packed(self) -> dict[Path, Path]:
        return {ROOT / name: Path(self.build_lib, "spacewarps", PACKED, name) for name in PROJECT_FILES}


setup(cmdclass={"build_py": BuildWithProject})
