"""Every step's losses, as Parquet: part files while the training runs, one file when it is done."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.whole_files import write_whole

Row = dict[str, float]  # step, lr, total, and each unweighted loss by name


class LossLog:
    """`steps/<first>-<last>.parquet` parts in a folder, then `steps.parquet`.

    A part is written just before the checkpoint that covers its steps, so no part has
    steps from both sides of a checkpoint, and a resumed training writes the same rows again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "steps"
        self.whole = folder / "steps.parquet"
        self.pending: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        self.pending += rows

    def forget_after(self, step: int) -> None:
        """Delete the parts that an interrupted training wrote after its checkpoint at `step`."""
        for path in self._paths():
            if int(path.stem.partition("-")[2]) > step:
                path.unlink()

    def flush(self) -> None:
        """Write the pending rows as one part."""
        if not self.pending:
            return
        first, last = int(self.pending[0]["step"]), int(self.pending[-1]["step"])
        columns = {name: [row[name] for row in self.pending] for name in self.pending[0]}
        table = pa.table({**columns, "step": pa.array(map(int, columns["step"]), pa.int64())})
        path = self.parts / f"{first:09d}-{last:09d}.parquet"
        write_whole(path, lambda temporary: pq.write_table(table, temporary))
        self.pending = []

    def finish(self) -> Path | None:
        """Write all parts as one file; returns None if nothing was logged. The parts stay: a
        training that is interrupted before its weights are written still needs them."""
        self.flush()
        paths = self._paths()
        if paths:
            table = pa.concat_tables([pq.read_table(path) for path in paths])
            write_whole(self.whole, lambda temporary: pq.write_table(table, temporary))
        return self.whole if self.whole.is_file() else None

    def _paths(self) -> list[Path]:
        return sorted(self.parts.glob("*.parquet"))
