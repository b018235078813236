/** Our side of the suite of optimisers: a whole training step with Muon, and updates of its matrices alone. */
import { readFileSync } from 'node:fs';
import {
  adamW,
  configure,
  groups,
  int32,
  muon,
  type Optimizer,
  program,
  Rng,
  tensor,
  type Variable,
  variable,
} from 'anneal';
import { parameterSpecs } from '../engine/gpt.js';
import { gptLoss, sequencesInCache } from '../engine/ours.js';
import type { Side } from '../lm/side.js';
import type { Request } from '../protocol.js';
import { isMuons, type OptimJob } from './job.js';
import { PlainMuon } from './plain-muon.js';

const rng = new Rng(1);

/** A matrix of normal numbers under a name. */
function matrix(name: string, shape: readonly number[], std: number): Variable {
  const values = rng.split(name).normal(shape.reduce((size, dim) => size * dim, 1));
  return variable(
    tensor(
      values.map((x) => std * x),
      [...shape],
    ),
    {
      name,
      ...(isMuons(name) && { role: 'matrix' as const }),
    },
  );
}

/** The whole step: forward, backward, Muon for the matrices and AdamW for the rest. */
function trainingStep({ config }: OptimJob): () => Promise<unknown> {
  const parameters = parameterSpecs(config).map(({ name, shape }) =>
    matrix(name, shape, shape.length > 1 ? 0.02 : 1),
  );
  const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const optimizer = groups([
    { name: 'matrices', match: ({ role }) => role === 'matrix', optimizer: muon({ lr: 0.02 }) },
    { name: 'rest', optimizer: adamW({ lr: 1e-3 }) },
  ]);
  const shape = [config.batch, config.context];
  const step = program(
    { x: int32(shape), y: int32(shape) },
    ({ x, y }) => {
      const loss = gptLoss(config, 1e-6, (name) => byName.get(name)!, x, y);
      optimizer.minimize(loss, parameters);
      return { loss };
    },
    { name: 'gpt', microBatches: config.batch / sequencesInCache(config) },
  );
  const tokens = Int32Array.from({ length: config.batch * config.context }, (_, i) => (i * 7) % config.vocab);
  return () => step({ x: tokens, y: tokens });
}

/** An update of the matrices from given gradients. */
function updateOf(job: OptimJob, optimizer: Pick<Optimizer, 'apply'> | PlainMuon): () => Promise<unknown> {
  const parameters = job.matrices.map(({ name, shape }) => matrix(name, shape, 0.02));
  const gradients = job.matrices.map(({ name, shape }) => matrix(`${name}.gradient`, shape, 1e-3));
  const update = program({ x: [1] }, ({ x }) => {
    optimizer.apply(gradients, parameters);
    return { x: x.add(1) };
  });
  return () => update({ x: new Float32Array(1) });
}

/** Everything that can be timed, by name. */
const works: Readonly<Record<string, (job: OptimJob) => () => Promise<unknown>>> = {
  step: trainingStep,
  muon: (job) => updateOf(job, muon({ lr: 0.02 })),
  adamw: (job) => updateOf(job, adamW({ lr: 1e-3 })),
  longSide: (job) => updateOf(job, new PlainMuon(0.02, { smallSideFirst: false, batched: true })),
  single: (job) => updateOf(job, new PlainMuon(0.02, { smallSideFirst: true, batched: false })),
  plain: (job) => updateOf(job, new PlainMuon(0.02, { smallSideFirst: false, batched: false })),
};

/** Opens the side for a job file. */
export async function open(file: string): Promise<Side> {
  const job = JSON.parse(readFileSync(file, 'utf8')) as OptimJob;
  configure({ threads: job.threads });
  const ready = new Map<string, () => Promise<unknown>>();
  /** Milliseconds of one run; each work is compiled when it is first asked for. */
  const time = async ({ work }: Request) => {
    const name = String(work);
    if (!ready.has(name)) {
      const run = works[name]!(job);
      await run();
      ready.set(name, run);
    }
    const start = performance.now();
    await ready.get(name)!();
    return { type: 'timed', ms: performance.now() - start };
  };
  return { about: `anneal, ${job.threads} threads`, operations: { time } };
}
