/**
 * A contestant that runs in Node: `node child.js JOB_FOLDER MODULE`, where the module exports `createGpt`.
 *
 * Steps are timed in here, so that the pipe to the suite costs nothing, and the process is the contestant's
 * own, so that its peak memory is too. Between requests it only waits on stdin.
 */
import readline from 'node:readline';
import { pathToFileURL } from 'node:url';
import { peakMemoryMB, type Reply, type TrainRequest } from '../protocol.js';
import { type CreateGpt, type GptTrainer, type LoadedJob, readJob } from './gpt.js';

function reply(message: Reply): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Runs a burst of steps; `done` counts the steps taken so far and chooses the next batch. */
async function runBurst(
  trainer: GptTrainer,
  loaded: LoadedJob,
  done: number,
  steps: number,
  budgetMs: number,
) {
  const ms: number[] = [];
  const losses: number[] = [];
  const end = performance.now() + budgetMs;
  while (ms.length < steps || performance.now() < end) {
    const { x, y } = loaded.batch(done + ms.length);
    const start = performance.now();
    losses.push(await trainer.step(x, y));
    ms.push(performance.now() - start);
  }
  return { ms, losses };
}

async function serve(folder: string, modulePath: string): Promise<void> {
  // Libraries greet on stdout; that channel belongs to the protocol.
  console.log = console.info = console.error;
  const loaded = readJob(folder);
  let trainer: GptTrainer;
  try {
    const { createGpt } = (await import(pathToFileURL(modulePath).href)) as { createGpt: CreateGpt };
    trainer = await createGpt(loaded.job, loaded.weights);
  } catch (error) {
    console.error(error);
    reply({ type: 'unavailable', reason: (error as Error).message });
    return;
  }
  reply({ type: 'ready', about: trainer.about, compileMs: trainer.compileMs });
  let done = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as TrainRequest;
    if (request.op === 'stop') break;
    if (request.op === 'memory') {
      reply({ type: 'memory', peakMB: peakMemoryMB() });
      continue;
    }
    const { ms, losses } = await runBurst(trainer, loaded, done, request.steps, request.budgetMs);
    done += ms.length;
    reply({ type: 'ran', ms, losses });
  }
}

const [folder, modulePath] = process.argv.slice(2);
if (folder === undefined || modulePath === undefined) {
  process.stderr.write('usage: node child.js JOB_FOLDER MODULE\n');
  process.exitCode = 2;
} else {
  await serve(folder, modulePath);
  // A contestant's worker threads or native pools would keep the process alive after its last reply.
  process.stdout.write('', () => process.exit());
}
