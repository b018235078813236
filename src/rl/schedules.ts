import { AnnealError } from '../core/errors.js';

/** A coefficient as a function of the number of updates that its policy has had: 0 at the first. */
export type Coefficient = (update: number) => number;

/** How a coefficient goes from one value to another. */
export interface CoefficientOptions {
  kind: 'exponential' | 'linear' | 'cosine' | 'constant';
  start: number;
  /** Value from update `updates` on. A constant needs none. */
  end?: number;
  /** Updates until `end` is reached. A constant needs none. */
  updates?: number;
}

const curves = {
  /** start · (end / start)^x: RL Tango's α = max(α_min, α₀ e^(-ku)) with k = ln(α₀ / α_min) / T. */
  exponential: (start: number, end: number, x: number) => start * (end / start) ** x,
  linear: (start: number, end: number, x: number) => start + (end - start) * x,
  cosine: (start: number, end: number, x: number) => end + 0.5 * (start - end) * (1 + Math.cos(Math.PI * x)),
};

/**
 * A coefficient over the updates of one policy, not over global steps: phases of other policies, as a warm-up of a
 * verifier, do not move it. From update `updates` on it is exactly `end`.
 * @throws AnnealError if a value is missing or not finite, or an exponential's ends do not have the same sign.
 */
export function alphaSchedule({ kind, start, end, updates }: CoefficientOptions): Coefficient {
  const isValid = Number.isFinite(start) && (kind === 'constant' || Number.isFinite(end));
  if (!isValid) throw new AnnealError(`alphaSchedule: ${kind} from ${start} to ${end}; pass finite numbers`);
  if (kind === 'constant') return () => start;
  if (!Number.isInteger(updates) || updates! < 1)
    throw new AnnealError(`alphaSchedule: updates is ${updates}; pass the number of updates until the end`);
  if (kind === 'exponential' && !(start * end! > 0)) {
    throw new AnnealError(
      `alphaSchedule: exponential from ${start} to ${end}; both must be above 0, or use linear or cosine`,
    );
  }
  const curve = curves[kind];
  return (update) => (update >= updates! ? end! : curve(start, end!, update / updates!));
}
