export * from './chain-arithmetic.js';
export * from './countdown.js';
export * from './examples.js';
export { type Evaluated, evaluateExpression, type Fraction } from './expression.js';
export * from './last-letter.js';
export { type RunLimits, type RunResult, runProgram } from './stack-machine.js';
export * from './stack-programs.js';
export { mixTasks, type Range, type Solution, type StepTask, type TaskPart } from './task.js';
export * from './tokenizer.js';
