import { AnnealError } from '../../core/errors.js';
import type { Tokenizer } from '../../data/tokenizer.js';

/** A chat template for a model that has none. */
export interface DefaultChatTemplate {
  /** Jinja. */
  template: string;
  /** Id of the token that ends each message, and so an answer. */
  endToken: number;
}

/**
 * ChatML: `<|im_start|>role⏎content<|im_end|>⏎`. Where the tokenizer does not have `<|im_end|>` as a special token,
 * messages end with its end-of-text token instead: an answer has to end with a token that no text contains.
 * @throws AnnealError if the tokenizer has neither
 */
export function defaultChatTemplate(tokenizer: Tokenizer): DefaultChatTemplate {
  const special = tokenizer.specialTokens?.get('<|im_end|>')?.id;
  const endToken = special ?? tokenizer.endOfText;
  if (endToken === undefined) {
    throw new AnnealError(
      'the tokenizer has no special token that can end an answer; give it one, such as <|im_end|>, or a template',
    );
  }
  const end = JSON.stringify(tokenizer.decode([endToken], { special: true }));
  return {
    template:
      `{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + ${end} + '\\n' }}{% endfor %}` +
      `{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`,
    endToken,
  };
}
