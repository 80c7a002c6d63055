"""Run by an environment with pandas, polars and DuckDB: rows and a picture of rl/, as JSON."""

import io
import json
import sys
from pathlib import Path

import duckdb
import pandas
import polars
from PIL import Image


def main(root: str) -> None:
    frame = pandas.read_parquet("rl")
    lazy = polars.read_parquet("rl/*.parquet")
    table = duckdb.sql("select * from 'rl/*.parquet'")
    train = "select count(*) from 'rl/train-*.parquet' where safety_label = 1"
    found = {
        "pandas": {
            "rows": len(frame),
            "unsafe": int((pandas.read_parquet(next(Path("rl").glob("train-*")))["safety_label"] == 1).sum()),
            "size": _size(root, frame["images"].iloc[0][0]),
        },
        "polars": {
            "rows": lazy.height,
            "unsafe": polars.read_parquet("rl/train-*.parquet").filter(polars.col("safety_label") == 1).height,
            "size": _size(root, lazy["images"][0][0]),
        },
        "duckdb": {
            "rows": len(table),
            "unsafe": duckdb.sql(train).fetchone()[0],
            "size": _size(root, table.select("images").fetchone()[0][0]),
        },
    }
    print(json.dumps(found))  # noqa: T201


def _size(root: str, cell: dict[str, object]) -> list[int]:
    data = cell["bytes"] or Path(root, str(cell["path"])).read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        return list(picture.size)


if __name__ == "__main__":
    main(sys.argv[1])
