import { type FileHandle, open } from 'node:fs/promises';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';

/**
 * Rows of a Parquet file, one row group in memory at a time.
 *
 * @param columns the columns to read; by default all
 * @throws AnnealError for a missing column, or a file that is damaged
 */
export async function* readParquet(
  file: string,
  columns?: readonly string[],
): AsyncGenerator<Record<string, unknown>> {
  const [{ parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ]);
  const source = await openBuffer(file);
  try {
    const metadata = await orCorrupt(file, parquetMetadataAsync(source));
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    const missing = columns?.find((column) => !names.includes(column));
    if (missing !== undefined) {
      throw new AnnealError(`${file} has no column "${missing}"; its columns are ${names.join(', ')}`);
    }
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      const options = { file: source, metadata, compressors, rowStart, rowEnd };
      yield* await orCorrupt(
        file,
        parquetReadObjects(columns ? { ...options, columns: [...columns] } : options),
      );
      rowStart = rowEnd;
    }
  } finally {
    await source.close();
  }
}

/** Passes our own errors on; any other means that the bytes make no sense. */
async function orCorrupt<T>(file: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof AnnealError) throw error;
    throw new AnnealError(
      `${file} is no readable Parquet file (${(error as Error).message}); fetch it again`,
    );
  }
}

/** A file as hyparquet reads it, by ranges. */
async function openBuffer(file: string) {
  let handle: FileHandle;
  let byteLength: number;
  try {
    handle = await open(file, 'r');
    byteLength = (await handle.stat()).size;
  } catch (error) {
    throw fileError('read', file, error);
  }
  return {
    byteLength,
    async slice(start: number, end = byteLength): Promise<ArrayBuffer> {
      const from = start < 0 ? byteLength + start : start;
      const buffer = new ArrayBuffer(Math.max(0, end - from));
      let done = 0;
      while (done < buffer.byteLength) {
        const { bytesRead } = await handle
          .read(new Uint8Array(buffer), done, buffer.byteLength - done, from + done)
          .catch((error: unknown) => {
            throw fileError('read', file, error);
          });
        if (!bytesRead)
          throw new AnnealError(`${file} ends at byte ${from + done}, before byte ${end}; fetch it again`);
        done += bytesRead;
      }
      return buffer;
    },
    close: () => handle.close(),
  };
}
