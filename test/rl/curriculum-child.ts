/** Runs the tiny curriculum in a process of its own: node curriculum-child.js '{"directory": …, "kill": …}'. */
import { reinforce } from '../../src/rl/index.js';
import { curriculumRun, type KillAt } from './curriculum-run.js';

const { directory, kill } = JSON.parse(process.argv[2]!) as { directory: string; kill?: KillAt };
const { options, policy } = curriculumRun(kill);
console.log(JSON.stringify(await reinforce({ ...options, directory, report: false })));
await policy.dispose();
