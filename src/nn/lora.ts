import { AnnealError } from '../core/errors.js';
import { uniform } from '../core/init.js';
import { add, mul } from '../core/ops/elementwise.js';
import { zeros } from '../core/ops/masks.js';
import { matmul } from '../core/ops/matmul.js';
import { Rng } from '../core/random.js';
import type { Tensor } from '../core/tensor.js';
import { Variable, variable } from '../core/variable.js';
import type { Projection } from './linear.js';
import { type Module, modulesOf, parametersOf } from './module.js';
import { PackedWeights } from './packed-linear.js';

/** Settings of an adapter. */
export interface LoraOptions {
  /** Inner width of the update: its rank. */
  rank: number;
  /** The update is scaled by alpha / rank. Default: 2 · rank. */
  alpha?: number;
  /**
   * Projections that receive an update: the last parts of their paths (`q`, `mlp.up`) or patterns over whole paths.
   * Default: every projection of attention and MLP layers; the head is left alone.
   */
  targets?: readonly (string | RegExp)[];
  /** Scales by alpha / √rank instead, so that high ranks learn at the same pace (Kalajdzievski 2023). Default false. */
  rsLora?: boolean;
  /** Of the initial A. Default 0. */
  seed?: number;
}

/** Shape and strength of one update. */
export interface LoraUpdate {
  rank: number;
  alpha: number;
  rsLora: boolean;
}

/**
 * A projection with a trainable update of low rank: y = base(x) + scale · (x A) B, A [inputs, rank], B [rank, outputs]
 * (Hu et al. 2021, "LoRA", equation 3; their A and B are the transposes). The base may be any projection,
 * 4-bit ones included: it is only applied.
 */
export class LoraLinear implements Projection {
  readonly inputs: number;
  readonly outputs: number;
  /** [inputs, rank] */
  readonly loraA: Variable;
  /** [rank, outputs] */
  readonly loraB: Variable;
  /** Factor of the update: alpha / rank, or alpha / √rank. */
  readonly scale: number;
  /** Whether programs that are traced from now on add the update; see `withoutAdapters`. */
  enabled = true;

  /** A is uniform in ±1/√inputs (PEFT's Kaiming-uniform with a = √5) and B zero: at first the update is nothing. */
  constructor(
    readonly base: Projection,
    readonly update: LoraUpdate,
    rng: Rng,
  ) {
    const { rank, alpha, rsLora } = update;
    this.inputs = base.inputs;
    this.outputs = base.outputs;
    this.scale = alpha / (rsLora ? Math.sqrt(rank) : rank);
    const bound = 1 / Math.sqrt(base.inputs);
    this.loraA = variable(uniform([base.inputs, rank], -bound, bound, rng));
    this.loraB = variable(zeros([rank, base.outputs]));
  }

  apply(x: Tensor): Tensor {
    const y = this.base.apply(x);
    if (!this.enabled) return y;
    return add(y, matmul(mul(matmul(x, this.loraA), this.scale), this.loraB));
  }
}

/** A projection and the properties that hold it: several where layers share it. */
interface Site {
  path: string;
  projection: Projection;
  holders: { module: Record<string, unknown>; key: string }[];
}

/** The storage of packed weights can be applied, too, but belongs to its projection or embedding. */
const isProjection = (value: unknown): value is Projection =>
  !(value instanceof PackedWeights) &&
  typeof (value as Projection | null)?.apply === 'function' &&
  typeof (value as Projection).inputs === 'number' &&
  typeof (value as Projection).outputs === 'number';

/** Every projection by its first path; the insides of projections are not looked into. */
function projectionsOf(model: Module): Site[] {
  const sites = new Map<Projection, Site>();
  for (const [parent, module] of modulesOf(model)) {
    if (isProjection(module)) continue;
    for (const [key, child] of Object.entries(module)) {
      if (!isProjection(child)) continue;
      const path = parent === '' ? key : `${parent}.${key}`;
      const site = sites.get(child) ?? { path, projection: child, holders: [] };
      site.holders.push({ module: module as Record<string, unknown>, key });
      sites.set(child, site);
    }
  }
  return [...sites.values()];
}

/** Every projection of a model by path, adapted ones included: what an adapter can be applied to. */
export const projectionPaths = (model: Module): Map<string, Projection> =>
  new Map(projectionsOf(model).map(({ path, projection }) => [path, projection]));

/** Every adapted projection by path. Empty for a model without an adapter. */
export function adaptersOf(model: Module): Map<string, LoraLinear> {
  const found = new Map<string, LoraLinear>();
  for (const { path, projection } of projectionsOf(model))
    if (projection instanceof LoraLinear) found.set(path, projection);
  return found;
}

const replace = ({ holders }: Site, by: Projection) => {
  for (const { module, key } of holders) module[key] = by;
};

const matches = (path: string, target: string | RegExp) =>
  typeof target === 'string' ? path === target || path.endsWith(`.${target}`) : new RegExp(target).test(path);

/** The last path components that a model's projections have: what a message offers as targets. */
const namesOf = (sites: readonly Site[]) =>
  [...new Set(sites.map(({ path }) => path.slice(path.lastIndexOf('.') + 1)))].join(', ');

function selectSites(sites: readonly Site[], targets: LoraOptions['targets']): Site[] {
  // A projection at the top of a model is its head.
  if (!targets) return sites.filter(({ path }) => path.includes('.'));
  for (const target of targets) {
    if (sites.some(({ path }) => matches(path, target))) continue;
    throw new AnnealError(
      `applyLora: no projection matches the target ${target instanceof RegExp ? target : `"${target}"`}; the model has ${namesOf(sites)}`,
    );
  }
  return sites.filter(({ path }) => targets.some((target) => matches(path, target)));
}

/** Variables that an adapter has frozen, by model: those become trainable again without it. */
const frozenBy = new WeakMap<Module, Variable[]>();

function checkUpdate({ rank, alpha }: LoraUpdate): void {
  if (!Number.isInteger(rank) || rank < 1)
    throw new AnnealError(`applyLora: rank is ${rank}; pass a positive integer, such as 8`);
  if (!(alpha > 0 && Number.isFinite(alpha)))
    throw new AnnealError(`applyLora: alpha is ${alpha}; pass a positive number, such as 16`);
}

/**
 * Adapts a model in place: wraps the targeted projections in `LoraLinear` and freezes every variable that it had, so
 * that `trainableParameters` are those of the adapter. Programs that were traced before do not see it.
 *
 * @returns the adapted projections by path
 * @throws AnnealError if a target matches no projection, or the model has an adapter already
 */
export function applyLora(model: Module, options: LoraOptions): Map<string, LoraLinear> {
  const { rank, alpha = 2 * rank, targets, rsLora = false, seed = 0 } = options;
  const update = { rank, alpha, rsLora };
  checkUpdate(update);
  const sites = selectSites(projectionsOf(model), targets);
  if (sites.length === 0) throw new AnnealError('applyLora: the model has no projection to adapt');
  return attachLora(model, new Map(sites.map(({ path }) => [path, update])), seed);
}

/**
 * `applyLora` with an update of its own for each path: what adapter files may hold.
 * @throws AnnealError if there is no projection at a path, or the model has an adapter already
 */
export function attachLora(
  model: Module,
  updates: ReadonlyMap<string, LoraUpdate>,
  seed = 0,
): Map<string, LoraLinear> {
  const sites = new Map(projectionsOf(model).map((site) => [site.path, site]));
  if ([...sites.values()].some(({ projection }) => projection instanceof LoraLinear))
    throw new AnnealError('applyLora: the model has an adapter already; merge it or remove it first');
  for (const [path, update] of updates) {
    checkUpdate(update);
    if (!sites.has(path)) throw new AnnealError(`applyLora: the model has no projection at "${path}"`);
  }
  freeze(model);
  const rng = new Rng(seed).split('lora');
  const adapters = new Map<string, LoraLinear>();
  for (const [path, update] of updates) {
    const site = sites.get(path)!;
    const adapter = new LoraLinear(site.projection, update, rng.split(path));
    adapter.loraA.nameIfUnnamed(`${path}.loraA`);
    adapter.loraB.nameIfUnnamed(`${path}.loraB`);
    replace(site, adapter);
    adapters.set(path, adapter);
  }
  return adapters;
}

/** Names first: once wrapped, a variable would be named after the wrapper. */
function freeze(model: Module): void {
  const frozen = [...parametersOf(model).values()].filter((p) => p.trainable);
  for (const parameter of frozen) parameter.trainable = false;
  frozenBy.set(model, frozen);
}

/** Puts the base projections back, after `each` has seen every adapted one, and thaws what `applyLora` froze. */
function unwrap(model: Module): void {
  for (const site of projectionsOf(model)) {
    if (site.projection instanceof LoraLinear) replace(site, site.projection.base);
  }
  for (const parameter of frozenBy.get(model) ?? []) parameter.trainable = true;
  frozenBy.delete(model);
}

/** Takes the adapter off: the model is what it was before `applyLora`. */
export const removeLora = (model: Module): void => unwrap(model);

/** The float32 weight [inputs, outputs] of a projection that stores one. */
function denseWeight(path: string, base: Projection): Variable {
  const { weight } = base as { weight?: unknown };
  const isDense =
    weight instanceof Variable &&
    weight.dtype === 'float32' &&
    weight.shape[0] === base.inputs &&
    weight.shape[1] === base.outputs;
  if (isDense) return weight;
  throw new AnnealError(
    `mergeLora: ${path} has no float32 weight to add the update to; load the model with weights: 'float32', or keep the adapter apart`,
  );
}

/** w += scale · A B, row by row: rows of w and B are contiguous. */
function addUpdate(weight: Variable, adapter: LoraLinear): void {
  const { loraA, loraB, scale, inputs, outputs } = adapter;
  const { rank } = adapter.update;
  const [a, b, w] = [loraA.data, loraB.data, weight.data];
  const row = new Float64Array(outputs);
  for (let i = 0; i < inputs; i++) {
    row.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = scale * a[i * rank + k]!;
      for (let j = 0; j < outputs; j++) row[j]! += factor * b[k * outputs + j]!;
    }
    for (let j = 0; j < outputs; j++) w[i * outputs + j]! += row[j]!;
  }
}

/**
 * Adds every update to its base weight, W + scale · A B, and takes the adapter off: same outputs, none of its cost.
 * Trace programs anew afterwards: those traced before would add the update a second time.
 * @throws AnnealError if a base has no float32 weight (4-bit layers); then nothing has changed
 */
export function mergeLora(model: Module): void {
  const adapters = [...adaptersOf(model)];
  if (adapters.length === 0)
    throw new AnnealError('mergeLora: the model has no adapter; call applyLora first');
  const weights = adapters.map(([path, { base }]) => denseWeight(path, base));
  adapters.forEach(([, adapter], i) => {
    addUpdate(weights[i]!, adapter);
  });
  unwrap(model);
}

/**
 * What `fn` returns while the model's adapters are off. Adapters are on or off when a program is *traced*: call
 * this inside a program's body to get the base model beside the adapted one, e.g. as the reference policy of RL, at
 * no extra memory.
 *
 * ```ts
 * const logits = model.forward(tokens);
 * const reference = withoutAdapters(model, () => model.forward(tokens));
 * ```
 */
export function withoutAdapters<T>(model: Module, fn: () => T): T {
  const adapters = [...adaptersOf(model).values()];
  const before = adapters.map(({ enabled }) => enabled);
  for (const adapter of adapters) adapter.enabled = false;
  try {
    return fn();
  } finally {
    adapters.forEach((adapter, i) => {
      adapter.enabled = before[i]!;
    });
  }
}

/** What an optimiser should change, by path: all variables that are not frozen; with an adapter, only the adapter's. */
export function trainableParameters(model: Module): Map<string, Variable> {
  return new Map([...parametersOf(model)].filter(([, parameter]) => parameter.trainable));
}
