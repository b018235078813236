// Reward hacking: detectors that read programs, probes that run them, problems that only cheats pass, and a
// run's report.
export type { ProgramFacts, TamperSign } from './facts.js';
export { type HardCodingKind, type HardCodingSign, hardCoding } from './hard-coding.js';
export { type ImpossibleProblem, impossible } from './impossible.js';
export {
  type ImpossibleAttempt,
  type ImpossibleOptions,
  type ImpossibleReport,
  probeImpossible,
  saysInfeasible,
} from './impossible-probe.js';
export { type Inspection, inspectProgram, programFacts } from './inspect.js';
export {
  formatHackReport,
  type HackExample,
  HackMonitor,
  type HackMonitorOptions,
  type HackPolicy,
  type HackReport,
  type HackSampleOptions,
  type Rate,
  verdictReward,
} from './monitor.js';
export {
  type Probe,
  type ProbeKind,
  type ProbeOptions,
  type ProbeReport,
  probeProgram,
  type Relation,
} from './probes.js';
export { type HackShape, synthesiseHacks } from './synthesise.js';
