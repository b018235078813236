import type { Terminal } from '../terminal.js';

/** Waits for Ctrl-C, and says what follows: the caller lets running requests finish, a second Ctrl-C ends the process. */
export async function untilInterrupted(terminal: Terminal): Promise<void> {
  const interrupt = terminal.interrupts();
  await new Promise<void>((resolve) => {
    if (interrupt.aborted) resolve();
    interrupt.addEventListener('abort', () => resolve(), { once: true });
  });
  terminal.warn('finishing what runs; Ctrl-C once more ends it');
}
