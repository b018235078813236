/** Language models as verifiers. No engine is loaded before `localModel` is called; `diskCache` and `loadLocalModel` need Node. */
export { type Attack, type AttackKind, attackKinds, attacksOn, batteryItems } from './attacks.js';
export {
  type BatteryExample,
  type BatteryItem,
  type BatteryOptions,
  type BatteryRate,
  formatJudgeBattery,
  type JudgeBatteryReport,
  judgeBattery,
} from './battery.js';
export { type BudgetLimits, JudgeBudget, type Spent } from './budget.js';
export { cached, memoryCache, type ReplyCache } from './cache.js';
export {
  type ChatCall,
  type ChatModel,
  type ChatReply,
  type ChatRequest,
  JudgeError,
  type JudgeFailure,
  type JudgeMessage,
  PromptTooLong,
} from './chat.js';
export { diskCache } from './disk-cache.js';
export { ChatEndpoint, type EndpointOptions } from './endpoint.js';
export {
  type EnsembleVerdict,
  type EnsembleVerifier,
  majority,
  type RulesThenJudgeOptions,
  rulesThenJudge,
  tolerant,
} from './ensemble.js';
export {
  type AskOptions,
  Judge,
  type JudgedItem,
  type JudgeOptions,
  type JudgeVerdict,
  type Vote,
} from './judge.js';
export { type LocalBundle, type LocalOptions, loadLocalModel, localModel } from './local.js';
export { type ReplyRule, readReply } from './parse.js';
export { type Protocol, withoutReference, withReference } from './protocol.js';
export type { RetryOptions } from './retry.js';
