/** The program in a response. */
import type { Span } from '../verdict.js';
import type { Language } from './problem.js';

/** A program, and where in the response it stands. */
export interface ExtractedCode {
  code: string;
  span: Span;
  rule: 'fence' | 'whole';
}

const names: Record<Language, readonly string[]> = {
  python: ['python', 'py', 'python3'],
  javascript: ['javascript', 'js', 'node', 'mjs', 'cjs'],
};

const looksLikeCode: Record<Language, RegExp> = {
  python: /^\s*(?:def |class |import |from |async def |for |while |if |print\(|[A-Za-z_][\w, ]*=|@)/m,
  javascript:
    /^\s*(?:function|class |const |let |var |import |export |async |console\.|[\w.]+ =|\(|module\.)/m,
};

/**
 * The program in a response: the last fenced block in the problem's language, else the last fenced block without
 * one, else the whole response if it looks like code. Thinking (`<think>…</think>`) is left out; a block that was
 * cut off at the end of the response counts.
 */
export function extractCode(response: string, language: Language): ExtractedCode | undefined {
  const thought = response.lastIndexOf('</think>');
  const start = thought < 0 ? 0 : thought + '</think>'.length;
  const text = response.slice(start);
  let named: ExtractedCode | undefined;
  let unnamed: ExtractedCode | undefined;
  const fence = /^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n([\s\S]*?)(?:^[ \t]*\1[ \t]*$|(?![\s\S]))/gm;
  for (const match of text.matchAll(fence)) {
    const begin = start + match.index + match[0].indexOf('\n') + 1;
    const code = match[3]!;
    const found: ExtractedCode = { code, span: { start: begin, end: begin + code.length }, rule: 'fence' };
    if (names[language].includes(match[2]!.toLowerCase())) named = found;
    else if (match[2] === '') unnamed = found;
  }
  if (named ?? unnamed) return named ?? unnamed;
  if (!looksLikeCode[language].test(text)) return undefined;
  return { code: text, span: { start, end: response.length }, rule: 'whole' };
}
