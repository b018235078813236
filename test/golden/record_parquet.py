"""Writes small Parquet files with the codecs that datasets use, into the folder codecs beside this file.

Run from the repository root: pip install pyarrow==26.0.1 && python test/golden/record_parquet.py
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

folder = pathlib.Path(__file__).with_name('codecs')
folder.mkdir(exist_ok=True)
table = pa.table({'text': ['eins', 'zwei', 'drei é', *['same'] * 97]})
for codec in ('zstd', 'gzip', 'snappy', 'brotli', 'lz4'):
    pq.write_table(table, folder / f'{codec}.parquet', compression=codec, row_group_size=40)
