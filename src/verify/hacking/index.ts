export type { ProgramFacts, TamperSign } from './facts.js';
export { type HardCodingKind, type HardCodingSign, hardCoding } from './hard-coding.js';
export { type ImpossibleProblem, impossible } from './impossible.js';
export { type Inspection, inspectProgram, programFacts } from './inspect.js';
export {
  codeReward,
  formatHackReport,
  HackMonitor,
  type HackPolicy,
  type HackReport,
  type Rate,
} from './monitor.js';
export { type HackShape, synthesiseHacks } from './synthesise.js';
