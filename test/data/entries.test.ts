import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { prefetch } from '../../src/data/prefetch.js';
import { TokenBatches } from '../../src/data/token-batches.js';
import { TokenDataset } from '../../src/data/token-dataset.js';
import { adamW, crossEntropy, gather, int32, program, randn, variable } from '../../src/index.js';

const root = fileURLToPath(new URL('../../src/', import.meta.url));

/** Modules that a file loads when it is imported: its static imports that are not of types only, and theirs. */
function loads(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(path.join(root, file), 'utf8');
  for (const [, clause, name] of text.matchAll(/^(?:import|export) ([^'"]*?)from '([^']+)';$/gms)) {
    if (clause!.startsWith('type ')) continue;
    if (!name!.startsWith('.')) seen.add(name!);
    else loads(path.posix.join(path.posix.dirname(file), name!).replace(/\.js$/, '.ts'), seen);
  }
  return seen;
}

describe('entry points', () => {
  it('of the browser load nothing of Node', () => {
    const modules = [...loads('data/index.ts')];
    expect(modules).toContain('data/train-bpe.ts');
    expect(modules).toContain('@huggingface/jinja');
    expect(modules.filter((one) => one.startsWith('node:'))).toEqual([]);
  });

  it('of Node load the large packages only when they are needed', () => {
    const modules = [...loads('data/node.ts')];
    expect(modules).toContain('data/hub-download.ts');
    expect(modules).toContain('node:fs/promises');
    expect(modules.filter((one) => /hyparquet|huggingface\/hub/.test(one))).toEqual([]);
  });

  it('say what to install for the Hub', async () => {
    vi.doMock('@huggingface/hub', () => {
      throw new Error('Cannot find package');
    });
    const { hubSnapshot } = await import('../../src/data/node.js');
    await expect(hubSnapshot('owner/name')).rejects.toThrow(
      'reading from the Hugging Face Hub needs another package: npm install @huggingface/hub',
    );
    vi.doUnmock('@huggingface/hub');
  });
});

it('batches train a program', async () => {
  // A stream that repeats 0 … 9: the next token follows from the last one.
  const data = new TokenDataset(
    Uint16Array.from({ length: 500 }, (_, i) => i % 10),
    10,
  );
  const table = variable(randn([10, 10], { std: 0.1 }), { name: 'table' });
  const optimizer = adamW({ lr: 0.1 });
  const spec = { tokens: int32([4, 8]), targets: int32([4, 8]), weights: [4, 8] };
  const step = program(spec, ({ tokens, targets, weights }) => {
    const logits = gather(table, tokens);
    const loss = crossEntropy(logits, targets, { reduction: 'none' }).mul(weights).mean();
    optimizer.minimize(loss, [table]);
    return { loss };
  });
  const batches = prefetch(new TokenBatches(data, { batch: 4, context: 8, mode: 'windows' }));
  let last = Number.POSITIVE_INFINITY;
  for (let n = 0; n < 100; n++) last = (await step(await batches.next())).loss.item();
  expect(last).toBeLessThan(0.05);
});
