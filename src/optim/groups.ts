import { AnnealError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { clipByGlobalNorm, globalNorm, Optimizer, type StepInfo } from './optimizer.js';
import { constantRate } from './schedule.js';

/** Parameters of one role, and the optimiser that updates them. */
export interface ParameterGroup {
  /** Names the group's counters in the state and its rate in what a step reports; must differ from the others. */
  name: string;
  /** Whether the group takes a parameter that no earlier group took. Absent: it takes all that are left. */
  match?: RegExp | ((parameter: Variable) => boolean);
  /** Its own learning rate, weight decay, algorithm. */
  optimizer: Optimizer;
}

const takes = ({ match }: ParameterGroup, parameter: Variable): boolean =>
  match === undefined || (match instanceof RegExp ? match.test(parameter.name) : match(parameter));

class Groups extends Optimizer {
  protected readonly name = 'groups';
  /** Parameters by group, known once the update was traced. */
  private readonly members = new Map<ParameterGroup, Variable[]>();

  constructor(
    private readonly list: readonly ParameterGroup[],
    private readonly limit: number | undefined,
  ) {
    // The base's own rate and counter are never used: each group has its own.
    super({ lr: constantRate(0) });
  }

  protected update(): void {
    throw new AnnealError('groups: parameters are updated by the optimisers of the groups; call apply()');
  }

  /** State of parameters under their own names, counters as `<group>.<optimiser>.step`. */
  override state(): ReadonlyMap<string, Variable> {
    const all = new Map<string, Variable>();
    for (const group of this.list) {
      const owners = (this.members.get(group) ?? []).map((p) => `${p.name}.`);
      for (const [name, variable] of group.optimizer.state()) {
        const isOwned = owners.some((owner) => name.startsWith(owner));
        all.set(isOwned ? name : `${group.name}.${name}`, variable);
      }
    }
    return all;
  }

  private assign(parameters: readonly Variable[]): Map<ParameterGroup, number[]> {
    const indices = new Map<ParameterGroup, number[]>(this.list.map((group) => [group, []]));
    parameters.forEach((parameter, i) => {
      const group = this.list.find((one) => takes(one, parameter));
      if (!group) {
        throw new AnnealError(
          `groups: no group takes the parameter "${parameter.name}"; add a last group without match`,
        );
      }
      indices.get(group)!.push(i);
    });
    return indices;
  }

  /** The rate is that of the group with the most elements; `rates` has all of them by name. */
  override apply(gradients: readonly Tensor[], parameters: readonly Variable[]): StepInfo {
    if (gradients.length !== parameters.length || parameters.length === 0) {
      throw new AnnealError(`groups: ${gradients.length} gradients for ${parameters.length} parameters`);
    }
    const indices = this.assign(parameters);
    const limited = this.limit === undefined ? undefined : clipByGlobalNorm(gradients, this.limit);
    const used = limited?.clipped ?? gradients;
    const rates: Record<string, Tensor> = {};
    let largest: { size: number; rate: Tensor } | undefined;
    for (const [group, members] of indices) {
      if (members.length === 0) {
        throw new AnnealError(`groups: no parameter is left for the group "${group.name}"; check its match`);
      }
      const own = members.map((i) => parameters[i]!);
      this.members.set(group, own);
      const info = group.optimizer.apply(
        members.map((i) => used[i]!),
        own,
      );
      rates[group.name] = info.rate;
      const size = own.reduce((n, p) => n + p.size, 0);
      if (!largest || size > largest.size) largest = { size, rate: info.rate };
    }
    return { rate: largest!.rate, rates, gradNorm: limited?.norm ?? globalNorm(gradients) };
  }
}

/**
 * One optimiser made of several, each for the parameters of one role:
 *
 * ```ts
 * groups([
 *   { name: 'embedding', match: /embedding/, optimizer: adamW({ lr: scaled(schedule, 0.2), weightDecay: 0 }) },
 *   { name: 'rest', optimizer: adamW({ lr: schedule, weightDecay: 0.1 }) },
 * ], { clipNorm: 1 });
 * ```
 *
 * The first group that matches takes a parameter. `clipNorm` limits the norm over all groups together; an
 * optimiser's own limit then applies to its group.
 *
 * @throws AnnealError if two groups share a name or an optimiser; while tracing, if a parameter has no group or a
 *   group no parameter.
 */
export function groups(list: readonly ParameterGroup[], options: { clipNorm?: number } = {}): Optimizer {
  if (list.length === 0) throw new AnnealError('groups: needs at least one group');
  for (const [i, { name, optimizer }] of list.entries()) {
    const earlier = list.slice(0, i);
    if (earlier.some((one) => one.name === name))
      throw new AnnealError(`groups: two groups are named "${name}"; give each its own name`);
    if (earlier.some((one) => one.optimizer === optimizer))
      throw new AnnealError(
        `groups: the group "${name}" shares its optimiser with another; make one for each`,
      );
  }
  return new Groups(list, options.clipNorm);
}
