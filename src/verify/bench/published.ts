/** The paper's figures, for the table beside one's own. */
import type { BenchSet } from './items.js';

/** Accuracies in per cent by answer type, where they are published, and over all items. */
export interface PublishedScores {
  numeric?: number;
  expressions?: number;
  choice?: number;
  text?: number;
  all: number;
}

/** A row of the tables of VerifyBench (arXiv 2505.15801, ICLR 2026). */
export interface PublishedRow {
  verifier: string;
  standard?: PublishedScores;
  hard?: PublishedScores;
  /** Accuracy on the standard set where the verifier does not see the reference. */
  withoutReference?: number;
}

/** Items, and right ones among them, of the whole files (the paper's table 1). */
export const publishedSizes: Record<BenchSet, { items: number; right: number }> = {
  standard: { items: 2000, right: 1000 },
  hard: { items: 1000, right: 291 },
};

const scores = (
  numeric: number,
  expressions: number,
  choice: number,
  text: number,
  all: number,
): PublishedScores => ({ numeric, expressions, choice, text, all });

/** All but the reward models verify with the reference. */
export const publishedRows: readonly PublishedRow[] = [
  {
    verifier: 'math-verify (rules)',
    standard: scores(83.6, 72.0, 19.4, 8.6, 45.9),
    hard: scores(76.19, 82.95, 8.37, 10.43, 32.5),
  },
  {
    verifier: 'gpt-4o-2024-11-20',
    standard: scores(94.8, 90.2, 96.8, 90.8, 93.15),
    hard: scores(71.43, 65.91, 75.35, 71.3, 72.6),
  },
  {
    verifier: 'gpt-4o-mini',
    standard: scores(95.8, 89.8, 95.8, 90.0, 92.85),
    hard: scores(69.05, 72.73, 74.19, 72.17, 72.3),
  },
  {
    verifier: 'Llama-4-Scout',
    standard: scores(94.2, 86.8, 89.8, 89.25, 90.01),
    hard: scores(48.02, 39.77, 46.98, 55.22, 48.5),
    withoutReference: 73.95,
  },
  {
    verifier: 'Llama-3.3-70B',
    standard: scores(88.8, 77.8, 88.4, 78.0, 83.25),
    hard: scores(54.37, 45.45, 60.7, 47.39, 54.7),
    withoutReference: 75.0,
  },
  { verifier: 'Llama-3.1-8B', standard: { all: 73.05 }, hard: { all: 43.2 }, withoutReference: 64.1 },
  { verifier: 'Llama-3.2-3B', standard: { all: 60.95 }, hard: { all: 33.9 }, withoutReference: 55.35 },
  { verifier: 'Llama-3.2-1B', standard: { all: 44.15 }, hard: { all: 25.6 }, withoutReference: 44.5 },
  { verifier: 'Qwen3-235B-A22B', standard: { all: 93.8 }, hard: { all: 70.6 }, withoutReference: 80.15 },
  { verifier: 'Qwen3-30B-A3B', standard: { all: 94.0 }, hard: { all: 65.4 }, withoutReference: 78.25 },
  { verifier: 'Qwen2.5-72B', standard: { all: 92.35 }, hard: { all: 62.4 }, withoutReference: 77.3 },
  {
    verifier: 'Qwen3-32B',
    standard: scores(97.6, 94.0, 99.0, 92.6, 95.8),
    hard: scores(69.05, 81.82, 68.14, 77.83, 71.8),
    withoutReference: 78.9,
  },
  { verifier: 'Qwen3-8B', standard: { all: 94.0 }, hard: { all: 70.9 }, withoutReference: 75.75 },
  { verifier: 'Qwen3-4B', standard: { all: 92.0 }, hard: { all: 72.4 }, withoutReference: 74.4 },
  { verifier: 'Qwen3-1.7B', standard: { all: 81.1 }, hard: { all: 51.5 }, withoutReference: 62.1 },
  { verifier: 'phi-4', standard: { all: 89.35 }, hard: { all: 56.6 } },
  { verifier: 'Yi-1.5-9B', standard: { all: 87.7 }, hard: { all: 61.4 } },
  { verifier: 'gemma-3-1b', standard: { all: 52.65 }, hard: { all: 33.7 } },
  { verifier: 'Qwen2.5-Math-RM-72B (reward model)', withoutReference: 78.0 },
  { verifier: 'Qwen2-Math-RM-72B (reward model)', withoutReference: 75.9 },
  { verifier: 'internlm2-7b-reward (reward model)', withoutReference: 69.6 },
  { verifier: 'internlm2-20b-reward (reward model)', withoutReference: 65.4 },
  { verifier: 'Skywork-8B (reward model)', withoutReference: 63.48 },
  { verifier: 'GRM-8B (reward model)', withoutReference: 62.4 },
];
