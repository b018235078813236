/** Runs one training in a process of its own: node child.js '{"directory": …, "mode": …, "steps": …}'. */
import { AnnealError } from '../../src/index.js';
import { train } from '../../src/train/index.js';
import { type Mode, optionsOf, Points } from './tiny.js';

const settings = JSON.parse(process.argv[2]!) as {
  directory: string;
  mode: Mode;
  steps: number;
  /** Milliseconds that each batch takes. */
  delay?: number;
};

class SlowPoints extends Points {
  override next() {
    const batch = super.next();
    return new Promise<typeof batch>((resolve) => setTimeout(resolve, settings.delay, batch)) as never;
  }
}

// Without a listener the system ends a process that writes past its file size limit; with one the write fails.
process.on('SIGXFSZ', () => undefined);

try {
  const options = optionsOf(settings.mode, settings.steps);
  if (settings.delay) options.data = new SlowPoints();
  const result = await train({ ...options, directory: settings.directory, report: false });
  console.log(JSON.stringify(result));
} catch (error) {
  console.error(error instanceof AnnealError ? error.message : error);
  process.exitCode = error instanceof AnnealError ? 2 : 1;
}
