import { createInterface, type Interface } from 'node:readline';
import { AnnealError } from '../../core/errors.js';
import { type ChatMessage, encodeChat } from '../../data/chat.js';
import { type OpenModel, openModel } from '../model.js';
import type { Cli, Terminal } from '../terminal.js';
import { type SamplingFlags, samplingOf, stream } from './sample.js';

interface Flags extends SamplingFlags {
  system?: string;
}

const help = '/reset begins a new conversation, /exit (or Ctrl-D) leaves, Ctrl-C stops an answer';

/** A conversation with a model: the messages so far, and the answer that is being written. */
class Conversation {
  private messages: ChatMessage[] = [];
  private answering: AbortController | undefined;
  private turns = 0;

  constructor(
    private readonly opened: OpenModel & { chatTemplate: string },
    private readonly flags: Flags,
    private readonly terminal: Terminal,
  ) {
    this.reset();
  }

  reset(): void {
    const { system } = this.flags;
    this.messages = system === undefined ? [] : [{ role: 'system', content: system }];
  }

  /** Ends the answer that is being written, if there is one. */
  stop(): boolean {
    this.answering?.abort();
    return this.answering !== undefined;
  }

  /** Adds a message of the user and streams the answer; what was written before a stop counts as the answer. */
  async say(content: string): Promise<void> {
    const { generator, tokenizer, chatTemplate, endTokens } = this.opened;
    const messages = [...this.messages, { role: 'user', content }];
    const prompt = encodeChat(tokenizer, chatTemplate, messages, { addGenerationPrompt: true });
    const room = generator.context - prompt.length;
    if (room < 1) {
      this.terminal.warn(
        `the conversation is longer than the ${generator.context} tokens that the model can read; /reset`,
      );
      return;
    }
    const sampling = samplingOf(this.flags);
    this.answering = new AbortController();
    const answer = generator.submit({
      ...sampling,
      seed: sampling.seed + this.turns++,
      prompt,
      maxTokens: Math.min(this.flags.tokens, room),
      stopTokens: endTokens,
      signal: AbortSignal.any([this.answering.signal, this.terminal.onClosed]),
    });
    const { text, finishReason } = await stream(answer, (piece) => this.terminal.write(piece));
    this.answering = undefined;
    const note = { stop: '', length: ' …', cancelled: ' (stopped)' }[finishReason];
    this.terminal.write(`${note}\n`);
    this.messages = [...messages, { role: 'assistant', content: text }];
  }
}

/** Takes one line after the other until the input ends. @returns whether Ctrl-C ended it. */
async function converse(lines: Interface, conversation: Conversation, terminal: Terminal): Promise<boolean> {
  let isInterrupted = false;
  const onInterrupt = () => {
    if (conversation.stop()) return;
    isInterrupted = true;
    lines.close();
  };
  // On a terminal readline catches Ctrl-C; without one it comes as a signal.
  lines.on('SIGINT', onInterrupt);
  process.on('SIGINT', onInterrupt);
  try {
    lines.prompt();
    for await (const line of lines) {
      const text = line.trim();
      if (text === '/exit') break;
      if (text === '/reset') conversation.reset();
      else if (text.startsWith('/')) terminal.print(help);
      else if (text !== '') await conversation.say(text);
      if (isInterrupted || terminal.closed) break;
      lines.prompt();
    }
  } finally {
    process.off('SIGINT', onInterrupt);
    lines.close();
  }
  return isInterrupted;
}

/** `anneal chat MODEL`. */
export async function chat(this: Cli, flags: Flags, path: string): Promise<void> {
  const { terminal } = this;
  const opened = await openModel(path, { slots: 1, packed: flags.packed === true });
  const { chatTemplate } = opened;
  if (chatTemplate === undefined) {
    throw new AnnealError(`${path} has no chat template; \`anneal sample ${path}\` continues a text`);
  }
  if (terminal.interactive) terminal.print(`${opened.name}. ${help}.`);
  const lines = createInterface({
    input: process.stdin,
    output: terminal.interactive ? process.stdout : undefined,
    terminal: terminal.interactive && process.stdin.isTTY === true,
    prompt: terminal.interactive ? '\n> ' : '',
  });
  const conversation = new Conversation({ ...opened, chatTemplate }, flags, terminal);
  const isInterrupted = await converse(lines, conversation, terminal);
  await opened.generator.close({ cancel: true });
  if (isInterrupted) terminal.interrupt();
}
