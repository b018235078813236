/**
 * Our side of a comparison in a process of its own: `node child.js MODULE JOB`, where the module exports `open`.
 * Work is timed in here, and between requests the process only waits on stdin.
 */
import readline from 'node:readline';
import { pathToFileURL } from 'node:url';
import type { Reply, Request } from '../protocol.js';
import type { OpenSide } from './side.js';

function reply(message: Reply): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function serve(modulePath: string, job: string): Promise<void> {
  const { open } = (await import(pathToFileURL(modulePath).href)) as { open: OpenSide };
  const { about, operations } = await open(job);
  reply({ type: 'ready', about });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    if (request.op === 'stop') return;
    const operation = operations[request.op];
    if (!operation) throw new Error(`there is no operation ${request.op}`);
    reply(await operation(request));
  }
}

const [modulePath, job] = process.argv.slice(2);
if (modulePath === undefined || job === undefined) {
  process.stderr.write('usage: node child.js MODULE JOB\n');
  process.exitCode = 2;
} else {
  try {
    await serve(modulePath, job);
  } catch (error) {
    // The suite reports the last line that it gets.
    process.stderr.write(`${(error as Error).stack}\n${(error as Error).message}\n`);
    process.exitCode = 1;
  }
  // The engine's threads would keep the process alive after its last reply.
  process.stdout.write('', () => process.exit());
}
