import { AnnealError } from '../../core/errors.js';
import type { HubOptions } from '../../data/node.js';
import { type BenchData, type BenchSet, readVerifyBench } from './items.js';

/** Where the authors publish the data (MIT licence). */
export const verifyBenchRepository = 'ZJU-REAL/VerifyBench';

const fileNames = { standard: 'verify_bench.jsonl', hard: 'verify_bench_hard.jsonl' } as const;

export interface VerifyBenchOptions extends HubOptions {
  /** Default `hard` where the path leaves a choice. */
  set?: BenchSet;
  /** Dataset on the Hub. Default: the authors'. */
  repository?: string;
}

/**
 * VerifyBench's items from a file, from a folder that holds the authors' files, or without a path from the Hugging
 * Face Hub, where they are downloaded once.
 * @throws AnnealError where there are none
 */
export async function loadVerifyBench(
  where?: string,
  { set, repository = verifyBenchRepository, ...hub }: VerifyBenchOptions = {},
): Promise<BenchData> {
  const name = fileNames[set ?? 'hard'];
  // Node's modules, on first use: items that are at hand can be scored in browsers, too.
  const { stat } = await import('node:fs/promises');
  const path = await import('node:path');
  if (where === undefined) {
    const { hubSnapshot } = await import('../../data/node.js');
    const { folder, files } = await hubSnapshot(repository, { ...hub, files: `**/${name}` });
    return readVerifyBench(path.join(folder, files[0]!));
  }
  const found = await stat(where).catch(() => undefined);
  if (!found?.isDirectory()) {
    const data = await readVerifyBench(where);
    return set ? { ...data, set } : data;
  }
  // As the authors' repository and its copies on the Hub lay them out.
  for (const file of [path.join(where, name), path.join(where, 'data', name)])
    if (await stat(file).catch(() => undefined)) return readVerifyBench(file);
  throw new AnnealError(`the folder ${where} has no ${name}; pass the file, or nothing to download it`);
}
