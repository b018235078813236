/** RL Tango's text formats: what a generator and a verifier are asked, and how what they write is read. */
export { fullPrompts, shortPrompts, type TangoPrompts } from './prompts.js';
export {
  boxesOf,
  formatSolution,
  type ParsedSolution,
  parseSolution,
  type StepSpan,
} from './solution-format.js';
export {
  formatVerification,
  type ParsedVerification,
  parseVerification,
  type StepVerdict,
} from './verification-format.js';
