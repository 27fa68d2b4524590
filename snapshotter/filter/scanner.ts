/**
 * Tokens of a filter. One quirk of containerd's scanner is kept because clients depend on it: after an operator a run
 * of visible characters is a value, elsewhere only field characters make a word.
 * Source: containerd, filters/scanner.go (1.6) and pkg/filters/scanner.go (2.x).
 */
import { FilterSyntaxError } from './syntax-error.ts';

export type Token =
  | { kind: 'word'; text: string; at: number }
  | { kind: 'quoted'; quote: Quote; raw: string; at: number }
  | { kind: 'separator'; text: ',' | '.'; at: number }
  | { kind: 'operator'; text: string; at: number }
  | { kind: 'end'; at: number };
export type Quote = '"' | '/' | '|';

export class Scanner {
  readonly #input: string;
  #at = 0;
  #afterOperator = false;

  constructor(input: string) {
    this.#input = input;
  }

  /** The next character as it is, spaces included; undefined at the end. */
  peekChar(): string | undefined {
    return this.#input[this.#at];
  }

  next(): Token {
    while (isSpace(this.#input[this.#at])) this.#at++;
    const at = this.#at;
    const char = this.#input[at];
    if (char === undefined) return { kind: 'end', at };
    if (char === '"' || char === '/' || char === '|') return this.#quoted(char);
    if (char === ',' || char === '.') {
      this.#at++;
      this.#afterOperator = false;
      return { kind: 'separator', text: char, at };
    }
    if (isOperator(char)) {
      this.#afterOperator = true;
      return { kind: 'operator', text: this.#take(isOperator), at };
    }
    if (this.#afterOperator) {
      this.#afterOperator = false;
      return { kind: 'word', text: this.#take((c) => c !== ',' && isVisible(c)), at };
    }
    if (isField(char)) return { kind: 'word', text: this.#take(isField), at };
    throw new FilterSyntaxError(this.#input, at, 'expected a field, an operator or a value');
  }

  #take(accept: (char: string) => boolean): string {
    const start = this.#at;
    for (let char = this.#input[this.#at]; char !== undefined && accept(char); char = this.#input[this.#at])
      this.#at++;
    if (this.#at === start) throw new FilterSyntaxError(this.#input, start, 'unexpected character');
    return this.#input.slice(start, this.#at);
  }

  #quoted(quote: Quote): Token {
    const at = this.#at++;
    for (let char = this.#input[this.#at]; char !== quote; char = this.#input[this.#at]) {
      if (char === undefined || char === '\n')
        throw new FilterSyntaxError(this.#input, at, 'quoted literal is not terminated');
      this.#at += char === '\\' ? 2 : 1;
    }
    this.#at++;
    return { kind: 'quoted', quote, raw: this.#input.slice(at + 1, this.#at - 1), at };
  }
}

function isSpace(char: string | undefined): boolean {
  return char !== undefined && /\p{White_Space}/u.test(char);
}

function isOperator(char: string): boolean {
  return char === '=' || char === '!' || char === '~';
}

function isField(char: string): boolean {
  return /[A-Za-z0-9_]/.test(char);
}

/** Surrogates are halves of characters outside of the BMP, all taken as visible. */
function isVisible(char: string): boolean {
  return /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(char) || /[\ud800-\udfff]/.test(char);
}
