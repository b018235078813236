import type { ServerOptions } from '../../serve/index.js';
import type { Listening } from '../flags.js';
import { loadForGeneration, type ModelFlags } from '../model.js';
import type { Cli } from '../terminal.js';
import { untilInterrupted } from './listen.js';

interface Flags extends ModelFlags, Listening {
  slots: number;
  queue: number;
  capacity?: number;
  name?: string;
}

/** `anneal serve MODEL`: until Ctrl-C, which lets running requests finish; a second one ends them. */
export async function serve(this: Cli, flags: Flags, path: string): Promise<void> {
  const { terminal } = this;
  // Taken over before anything is loaded, so that Ctrl-C meanwhile ends the command in good order.
  terminal.interrupts();
  const [bundle, { createServer }] = await Promise.all([
    loadForGeneration(path, flags),
    import('../../serve/index.js'),
  ]);
  const name = flags.name ?? bundle.name;
  const options: ServerOptions = {
    models: [{ ...bundle, name }],
    slots: flags.slots,
    maxQueue: flags.queue,
    onError: (error) =>
      terminal.warn(error instanceof Error ? (error.stack ?? error.message) : String(error)),
  };
  if (flags.key) options.keys = flags.key;
  if (flags.capacity !== undefined) options.capacity = flags.capacity;
  const server = createServer(options);
  const { url } = await server.listen(flags.port, flags.host);
  terminal.print(`serving ${name} at ${url}/v1 (${flags.slots} slots); Ctrl-C stops`);
  await untilInterrupted(terminal);
  await server.close();
}
