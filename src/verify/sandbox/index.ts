// Ways of running foreign code. `CodeVerifier` is what most callers want; these are its parts.
export { chooseSandboxes, type SandboxChoice, type SandboxChoiceOptions } from './choose.js';
export type { EscapeAttempt } from './escape-attempts.js';
export { EscapeBattery, type EscapeOptions, type EscapeResult, escapeAttempts } from './escapes.js';
export { type CompareOptions, type Json, sameValue, showWire, toWire, type Wire } from './plain.js';
export { type Loan, type PoolOptions, SandboxPool } from './pool.js';
export {
  defaultLimits,
  type Fault,
  type FaultKind,
  type Reply,
  type Sandbox,
  type SandboxLimits,
  type SandboxName,
  type Unusable,
} from './sandbox.js';
export { type Request, Session } from './session.js';
