import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const entry = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
/** Compiles several programs with kernels at once, before the process has any. */
const script = `
  import { gelu, program } from ${JSON.stringify(entry)};
  const make = (n) => program({ x: [n, 8] }, ({ x }) => ({ y: gelu(x) }));
  const runs = [2, 3, 4, 5].map((n) => make(n)({ x: new Float32Array(8 * n) }));
  console.log((await Promise.all(runs)).length);
`;

describe('the first programs of a process', () => {
  it('can be compiled at the same time', async () => {
    for (let i = 0; i < 5; i++) {
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
      expect(stdout.trim()).toBe('4');
    }
  });
});
