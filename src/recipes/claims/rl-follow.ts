import { Rng } from '../../index.js';
import type { Phase, PhaseSchedule } from '../../rl/index.js';

/** What was measured at one moment of an arm: axes (`steps.<phase>`, `allSteps`, `tokens`, `seconds`) and metrics. */
export type Point = Readonly<Record<string, number>>;

/** An arm that is to be run. */
export interface Followed {
  phases: Readonly<Record<string, Phase>>;
  schedule: PhaseSchedule;
  /** Arms of one seed get the same problems and the same seeds in the n-th step of a phase, whatever lies between. */
  seed: number;
  /** The phase whose steps are counted; it has `steps` of them, and is evaluated after every `every`. */
  counted: string;
  steps: number;
  every: number;
  /** Ends the arm before its last step, e.g. when its tokens are spent. */
  isOver?: (spent: { tokens: number }) => boolean;
  evaluate: () => Promise<Readonly<Record<string, number>>>;
  /** Metrics of the counted phase that belong to a point: their means since the one before. */
  watch?: readonly string[];
  signal: AbortSignal;
}

/** Each kind of phase draws its problems from a range of its own. */
const phaseStride = 1_000_000;

/** Processor time of this process in seconds: other load on the machine does not count. */
const processorSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const meanOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * Runs an arm and measures it: at its beginning, where a warm-up of another phase ends, and along the counted phase. The
 * time of evaluations is left out.
 * @returns undefined if the signal came first
 */
export async function follow(arm: Followed): Promise<Point[] | undefined> {
  const { phases, schedule, seed, counted, steps, every, evaluate, watch = [], signal } = arm;
  const order = Object.keys(phases);
  const done: Record<string, number> = Object.fromEntries(order.map((name) => [name, 0]));
  const points: Point[] = [];
  let [tokens, seconds] = [0, 0];
  let seen: Readonly<Record<string, number>>[] = [];
  const measure = async () => {
    const watched = watch.flatMap((name) => {
      const values = seen.flatMap((metrics) => metrics[name] ?? []);
      return values.length > 0 ? [[name, meanOf(values)] as const] : [];
    });
    const counts = order.map((name) => [`steps.${name}`, done[name]!] as const);
    const allSteps = Object.values(done).reduce((a, b) => a + b, 0);
    const axes = { ...Object.fromEntries(counts), allSteps, tokens, seconds };
    points.push({ ...axes, ...Object.fromEntries(watched), ...(await evaluate()) });
    seen = [];
  };
  await measure();
  for (let step = 0; done[counted]! < steps && !arm.isOver?.({ tokens }); step++) {
    const phase = schedule(step);
    if (phase === counted && done[counted] === 0 && step > 0) await measure();
    const phaseStep = done[phase]!;
    const stream = new Rng(seed, 'claims/rl').split(phase).split(phaseStep);
    const started = processorSeconds();
    try {
      const { metrics } = await phases[phase]!({
        step: phaseStep + order.indexOf(phase) * phaseStride,
        phase,
        phaseStep,
        policies: {},
        seed: (...parts) =>
          Math.floor(parts.reduce<Rng>((rng, part) => rng.split(part), stream).next() * 2 ** 53),
        signal,
        emit: () => undefined,
      });
      tokens += metrics.tokens ?? 0;
      if (phase === counted) seen.push(metrics);
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
    if (signal.aborted) return undefined;
    seconds += processorSeconds() - started;
    done[phase] = phaseStep + 1;
    const isDue = done[counted]! % every === 0 || done[counted] === steps;
    if (phase === counted && isDue) await measure();
  }
  if (points.at(-1)!.tokens !== tokens) await measure();
  return points;
}
