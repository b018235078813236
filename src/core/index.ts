import './fluent.js';

export { checkpoint, grad, valueAndGrad, vjp } from './autodiff.js';
export { type Configuration, configure, registerDevice, runtimeStats } from './device.js';
export type { DType, TypedArray } from './dtype.js';
export { AnnealError } from './errors.js';
export { bool, type Feed, float32, float64, type InputSpec, type InputType, int32 } from './feeds.js';
export { fromFloat16, toFloat16 } from './float16.js';
export { randn, seed, uniform } from './init.js';
export { interpret } from './interpret.js';
export * from './ops/index.js';
export { type Program, type ProgramOptions, program } from './program.js';
export { philox4x32, Rng } from './random.js';
export type { ProgramReport } from './report.js';
export type { Shape } from './shape.js';
export { Tensor, type TensorLike } from './tensor.js';
export { Value } from './value.js';
export { type ParameterRole, Variable, type VariableOptions, variable } from './variable.js';
