/** Runs the pair of policies in a process of its own: node child.js '{"directory": …, "steps": …, "kill": …}'. */
import { AnnealError } from '../../src/index.js';
import { reinforce } from '../../src/rl/index.js';
import { type KillPoint, pairOptions } from './tiny-run.js';

const settings = JSON.parse(process.argv[2]!) as { directory: string; steps: number; kill?: KillPoint };

const { options, speaker, critic } = pairOptions(settings.steps, settings.kill);
try {
  const result = await reinforce({ ...options, directory: settings.directory, report: false });
  console.log(JSON.stringify(result));
} catch (error) {
  console.error(error instanceof AnnealError ? error.message : error);
  process.exitCode = 2;
} finally {
  await speaker.dispose();
  await critic.dispose();
}
