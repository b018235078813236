import { readFile } from 'node:fs/promises';
import { fileError } from '../../checkpoint/file-source.js';
import { AnnealError } from '../../core/errors.js';
import type { ChatModel } from '../../verify/judge/chat.js';
import type { Judge, ReplyRule } from '../../verify/judge/index.js';
import type { Verifier } from '../../verify/verdict.js';

/** Flags of judging models. */
export interface JudgeFlags {
  judge?: string;
  judgeModel?: string;
  keyFile?: string;
  rulesFirst?: boolean;
  noReference?: boolean;
  votes: number;
  reply: ReplyRule;
  replyTokens: number;
  concurrency: number;
  /** Seconds. */
  timeout: number;
  stream?: boolean;
  cache?: string;
  budgetCalls?: number;
  budgetTokens?: number;
  packed?: boolean;
}

/** A verifier as the flags choose it. */
export interface ChosenVerifier {
  verifier: Verifier;
  usesReference: boolean;
  /** Ends what runs, and frees what is held. */
  close(): Promise<void>;
}

const isAddress = (judge: string) => /^https?:\/\//i.test(judge);

async function readKey(file: string): Promise<string> {
  const key = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError('read', `--key-file ${file}`, error);
  });
  if (!key.trim()) throw new AnnealError(`--key-file ${file} is empty; put the key of the API into it`);
  return key.trim();
}

/** The model behind `--judge`. */
async function openModel(where: string, flags: JudgeFlags): Promise<ChatModel> {
  const { ChatEndpoint, JudgeBudget, loadLocalModel } = await import('../../verify/judge/index.js');
  const { judgeModel, keyFile, concurrency, timeout, stream, budgetCalls, budgetTokens, packed } = flags;
  if (!isAddress(where)) {
    const remote = { judgeModel, keyFile, stream, budgetCalls, budgetTokens };
    const name = Object.entries(remote).find(([, value]) => value !== undefined)?.[0];
    if (name) {
      const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      throw new AnnealError(`--${flag} is for an API, and --judge ${where} is a local model; leave it out`);
    }
    return loadLocalModel(where, { slots: concurrency, ...(packed && { packed }) });
  }
  if (packed)
    throw new AnnealError(`--packed is for a local model, and --judge ${where} is an API; leave it out`);
  if (judgeModel === undefined)
    throw new AnnealError(
      `--judge ${where} needs --judge-model, the name under which the API knows the model`,
    );
  const budget = new JudgeBudget({
    ...(budgetCalls !== undefined && { calls: budgetCalls }),
    ...(budgetTokens !== undefined && { tokens: budgetTokens }),
  });
  const apiKey = keyFile === undefined ? undefined : await readKey(keyFile);
  return new ChatEndpoint({
    url: where,
    model: judgeModel,
    concurrency,
    timeoutMs: timeout * 1000,
    budget,
    ...(stream && { stream }),
    ...(apiKey !== undefined && { apiKey }),
  });
}

async function openJudge(where: string, flags: JudgeFlags): Promise<Judge> {
  const { Judge, diskCache, withReference, withoutReference } = await import('../../verify/judge/index.js');
  return new Judge({
    model: await openModel(where, flags),
    protocol: flags.noReference ? withoutReference : withReference,
    rule: flags.reply,
    maxTokens: flags.replyTokens,
    votes: flags.votes,
    ...(flags.cache !== undefined && { cache: diskCache(flags.cache) }),
  });
}

/**
 * The rules, the judge, or both, as the flags say.
 * @throws AnnealError for flags that contradict each other, a model or a key that cannot be read
 */
export async function chooseVerifier(rules: Verifier, flags: JudgeFlags): Promise<ChosenVerifier> {
  const { judge: where, rulesFirst, noReference } = flags;
  if (where === undefined) {
    const needs = (flag: string) => new AnnealError(`${flag} is about a judge; name one with --judge`);
    if (rulesFirst) throw needs('--rules-first');
    if (noReference) throw needs('--no-reference');
    if (flags.judgeModel !== undefined) throw needs('--judge-model');
    return { verifier: rules, usesReference: true, close: async () => {} };
  }
  if (rulesFirst && noReference)
    throw new AnnealError(
      '--rules-first compares with the reference, and --no-reference does not; choose one',
    );
  const { rulesThenJudge } = await import('../../verify/judge/index.js');
  const judge = await openJudge(where, flags);
  return {
    verifier: rulesFirst ? rulesThenJudge(rules, judge) : judge,
    usesReference: judge.protocol.usesReference,
    close: () => judge.close(),
  };
}
