export { WeightAverage } from './average.js';
export {
  bestCheckpoint,
  checkpointPath,
  checkpointSteps,
  lastCheckpoint,
  readState,
  type TrainState,
} from './checkpoints.js';
export { drawCurve } from './curve.js';
export {
  type EventBody,
  type EventLog,
  type EventOf,
  type Metrics,
  metricNames,
  type RunEvent,
  readEvents,
  type Series,
  type StopReason,
  seriesOf,
} from './events.js';
export type {
  EvaluateOptions,
  Losses,
  ModelFiles,
  Moment,
  SaveOptions,
  TrainOptions,
  TrainResult,
} from './options.js';
export { measurePeak } from './peak.js';
export { duration, Progress, type ProgressOptions, Smoothed } from './progress.js';
export { writeReport } from './report.js';
export { RunDirectory, readConfig } from './run-directory.js';
export {
  compareRuns,
  listRuns,
  type RunComparison,
  type RunRecord,
  type RunSummary,
  readRun,
} from './runs.js';
export { type Chart, type ChartLine, lineChart } from './svg.js';
export { TensorBoardWriter } from './tensorboard.js';
export { train } from './train.js';
export { NonFiniteError } from './trainer.js';
