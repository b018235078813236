import type { Interval } from './metrics.js';

/** A measured number, with the ends of its confidence interval where there is one. */
export type Metric = { value: number } | Interval;

/** Measured numbers by name. */
export type Metrics = Record<string, Metric>;

/** Options of an evaluation; the model and its sampling, not the task. */
export interface EvaluateOptions {
  /** Only the first items of each task. Default: all. */
  limit?: number;
  /** Through the chat template, or as plain text? Default: chat where the model has a template. */
  chat?: boolean;
  /** Most tokens of an answer. Default: what the task says. */
  maxTokens?: number;
  /** Answers to each item; several give pass@k. Default 1. */
  samples?: number;
  /** The k of pass@k, each at most `samples`. Default: 1 and `samples`. */
  k?: readonly number[];
  /** Default: 0, the most likely answer; with several samples 0.8. */
  temperature?: number;
  /** Default 1. */
  topP?: number;
  /** Of the samples. Default 0. */
  seed?: number;
  /** Answers that are generated together. Default 16. */
  slots?: number;
  /** Of the intervals. Default 0.95. */
  confidence?: number;
  /** Called with the record of each item, in the order of the items: a line of a JSONL file. */
  onRecord?: (record: Readonly<Record<string, unknown>>) => void;
  /** Called as items are done. */
  onProgress?: (progress: { task: string; done: number; total: number }) => void;
  /** Ends the evaluation; the promise rejects with its reason. */
  signal?: AbortSignal;
}
