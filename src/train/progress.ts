import type { EventOf, RunEvent } from './events.js';
import type { RunWork } from './run.js';

/** Where and how progress is shown. */
export interface ProgressOptions {
  /** Default: standard error, so that a program's own output stays clean. */
  stream?: { write(text: string): unknown; isTTY?: boolean; columns?: number };
  /** Steps between two lines where the output is no terminal. Default: a twentieth of the run. */
  every?: number;
}

/** An average of the last ~50 values whose first ones are not pulled towards 0 (as the moments of Adam). */
export class Smoothed {
  private sum = 0;
  private weight = 0;

  constructor(private readonly keep = 0.98) {}

  add(value: number): void {
    this.sum = this.keep * this.sum + (1 - this.keep) * value;
    this.weight = this.keep * this.weight + (1 - this.keep);
  }

  /** Where the average stands, for `restore`. */
  state(): [number, number] {
    return [this.sum, this.weight];
  }

  restore([sum, weight]: readonly [number, number]): void {
    this.sum = sum;
    this.weight = weight;
  }

  /** NaN before the first value. */
  get value(): number {
    return this.sum / this.weight;
  }
}

/** `1 h 02 min`, `3 min 20 s`, `45 s`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const s = Math.round(seconds);
  if (s >= 3600)
    return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s` : `${s} s`;
}

/** Whole numbers from 100 up, three digits below. */
export const count = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en') : Number(value.toPrecision(3)).toString();

const metricsText = (metrics: Readonly<Record<string, number | null>>): string =>
  Object.entries(metrics)
    .map(([name, value]) => `${name} ${value === null ? 'not finite' : Number(value.toPrecision(5))}`)
    .join('  ');

/** Milliseconds between two renewals of the line on a terminal. */
const renewal = 100;

/** Shows a run: one line that renews itself on a terminal, some plain lines elsewhere. */
export class Progress {
  private readonly stream: NonNullable<ProgressOptions['stream']>;
  private readonly isTerminal: boolean;
  private readonly every: number;
  private readonly loss = new Smoothed();
  private readonly stepMs = new Smoothed(0.95);
  private readonly rate = new Smoothed(0.95);
  /** Last values of the metrics that the run wants to be seen. */
  private readonly figures = new Map<string, Smoothed>();
  private shownAt = Number.NEGATIVE_INFINITY;
  private isLineOpen = false;

  constructor(
    options: ProgressOptions,
    private readonly run: RunWork & { peakFlops: number | undefined },
  ) {
    this.stream = options.stream ?? process.stderr;
    this.isTerminal = this.stream.isTTY === true;
    this.every = options.every ?? Math.max(1, Math.round(run.steps / 20));
  }

  /** Takes part in the run as a listener of its events. */
  see(event: RunEvent): void {
    switch (event.kind) {
      case 'train': {
        this.loss.add(event.loss);
        this.stepMs.add(event.ms);
        this.rate.add(event.rate);
        this.note(event);
        this.show(event);
        break;
      }
      case 'evaluate':
        this.print(
          `step ${event.step}  evaluation  ${metricsText(event.metrics)}${event.isBest ? '  (best)' : ''}`,
        );
        break;
      case 'sample':
        if (typeof event.value === 'string') this.print(`step ${event.step}  sample\n${event.value}`);
        break;
      case 'note':
        this.print(event.text);
        break;
      default:
        break;
    }
  }

  /** Takes note of the metrics that the run wants to be seen, those of each kind of update apart. */
  private note({ metrics = {}, phase }: EventOf<'train'>): void {
    for (const name of this.run.figures ?? []) {
      const value = metrics[name];
      if (typeof value !== 'number' || !Number.isFinite(value)) continue;
      const label = phase === undefined ? name : `${phase} ${name}`;
      const figure = this.figures.get(label) ?? new Smoothed(0.8);
      figure.add(value);
      this.figures.set(label, figure);
    }
  }

  /** A line of its own, above the one that renews itself. */
  print(text: string): void {
    this.clear();
    this.stream.write(`${text}\n`);
    this.shownAt = Number.NEGATIVE_INFINITY;
  }

  /** The state of the run in one line. */
  line({ step, lr }: Pick<EventOf<'train'>, 'step' | 'lr'>): string {
    const { steps, unit, perStep, flopsPerStep, peakFlops } = this.run;
    const seconds = this.stepMs.value / 1000;
    const rate = perStep === undefined ? this.rate.value : perStep / seconds;
    const figures = [...this.figures].map(([name, { value }]) => `${name} ${Number(value.toPrecision(3))}`);
    const parts = [
      `step ${step}/${steps}`,
      ...(figures.length > 0 ? figures : [`loss ${this.loss.value.toFixed(3)}`]),
      `${count(rate)} ${unit}/s`,
    ];
    if (peakFlops !== undefined && flopsPerStep !== undefined)
      parts.push(`MFU ${((100 * flopsPerStep) / seconds / peakFlops).toFixed(0)} %`);
    parts.push(`lr ${Number(lr.toPrecision(3))}`, `${duration((steps - step) * seconds)} left`);
    return parts.join('  ');
  }

  private show(event: EventOf<'train'>): void {
    const { step } = event;
    const isLast = step === this.run.steps;
    if (!this.isTerminal) {
      if (step % this.every === 0 || isLast) this.stream.write(`${this.line(event)}\n`);
      return;
    }
    const now = performance.now();
    if (now - this.shownAt < renewal && !isLast) return;
    this.shownAt = now;
    // A line longer than the terminal would wrap, and then not be renewed but repeated.
    const text = this.line(event).slice(0, Math.max(20, (this.stream.columns ?? 120) - 1));
    this.stream.write(`\r\x1b[2K${text}`);
    this.isLineOpen = true;
    if (isLast) this.end();
  }

  private clear(): void {
    if (this.isLineOpen) this.stream.write('\r\x1b[2K');
    this.isLineOpen = false;
  }

  /** Leaves the last state of the line on the terminal. */
  end(): void {
    if (this.isLineOpen) this.stream.write('\n');
    this.isLineOpen = false;
  }
}
