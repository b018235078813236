import { writeFile } from 'node:fs/promises';
import { AnnealError } from '../../core/errors.js';
import { type EvaluateOptions, evaluate, type Metric, type TaskSpec, tasks } from '../../evaluate/index.js';
import { duration } from '../../recipes/format.js';
import { nearest } from '../../recipes/settings.js';
import { loadModel, type ModelFlags } from '../model.js';
import { table } from '../table.js';
import type { Cli, Terminal } from '../terminal.js';

interface Flags extends ModelFlags {
  limit?: number;
  samples?: number;
  temperature?: number;
  tokens?: number;
  seed?: number;
  slots?: number;
  plain?: boolean;
  records?: string;
  json?: boolean;
}

/** `gsm8k file=a.jsonl shots=4 perplexity file=b.txt` as two tasks: settings belong to the task before them. */
export function readTasks(words: readonly string[]): TaskSpec[] {
  const specs: { task: string; settings: Record<string, string> }[] = [];
  const kinds = Object.keys(tasks);
  for (const word of words) {
    const at = word.indexOf('=');
    if (at > 0) {
      const last = specs.at(-1);
      if (!last) throw new AnnealError(`"${word}" belongs to no task; begin with one of ${kinds.join(', ')}`);
      last.settings[word.slice(0, at)] = word.slice(at + 1);
    } else if (kinds.includes(word)) specs.push({ task: word, settings: {} });
    else {
      const near = nearest(word, kinds);
      const remedy = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `there are ${kinds.join(', ')}`;
      throw new AnnealError(`there is no task "${word}"; ${remedy}`);
    }
  }
  if (specs.length === 0)
    throw new AnnealError(`name a task: ${kinds.join(', ')}; \`anneal eval --help\` shows them`);
  return specs;
}

const metricText = (metric: Metric): string => {
  const digits = (value: number) => (Number.isInteger(value) ? value.toLocaleString('en') : value.toFixed(4));
  return 'low' in metric
    ? `${digits(metric.value)} (${digits(metric.low)} … ${digits(metric.high)})`
    : digits(metric.value);
};

/** Shows how far a task is; nothing where standard error is no terminal. */
function progressOn(terminal: Terminal): EvaluateOptions['onProgress'] {
  if (process.stderr.isTTY !== true) return undefined;
  return ({ task, done, total }) => {
    process.stderr.write(`\r\x1b[2K${task} ${done}/${total}${done === total ? '\r\x1b[2K' : ''}`);
    if (terminal.closed) process.stderr.write('\n');
  };
}

/** `anneal eval MODEL TASK key=value …`. */
export async function evaluateModel(
  this: Cli,
  flags: Flags,
  path: string,
  ...words: string[]
): Promise<void> {
  const { terminal } = this;
  const specs = readTasks(words);
  const bundle = await loadModel(path, flags);
  const records: string[] = [];
  const signal = terminal.interrupts();
  const options: EvaluateOptions = { signal };
  if (flags.limit !== undefined) options.limit = flags.limit;
  if (flags.samples !== undefined) options.samples = flags.samples;
  if (flags.temperature !== undefined) options.temperature = flags.temperature;
  if (flags.tokens !== undefined) options.maxTokens = flags.tokens;
  if (flags.seed !== undefined) options.seed = flags.seed;
  if (flags.slots !== undefined) options.slots = flags.slots;
  if (flags.plain) options.chat = false;
  if (flags.records !== undefined) options.onRecord = (record) => records.push(JSON.stringify(record));
  const onProgress = progressOn(terminal);
  if (onProgress) options.onProgress = onProgress;
  const result = await evaluate(bundle, specs, options).catch((error: unknown) => {
    // Ctrl-C: the exit code says it all.
    if (signal.aborted) return undefined;
    throw error;
  });
  if (flags.records !== undefined)
    await writeFile(flags.records, records.map((line) => `${line}\n`).join(''));
  if (!result) return;
  if (flags.json) {
    terminal.json(result);
    return;
  }
  const rows = result.tasks.flatMap(({ task, items, metrics, seconds }) =>
    Object.entries(metrics).map(([name, metric], i) => [
      i === 0 ? task : '',
      i === 0 ? String(items) : '',
      name,
      metricText(metric),
      i === 0 ? duration(seconds) : '',
    ]),
  );
  for (const line of table(['task', 'items', 'metric', 'value', 'time'], rows)) terminal.print(line);
  for (const { task, notes } of result.tasks) for (const note of notes) terminal.print(`${task}: ${note}`);
}
