/**
 * Parser of filters:
 *
 *     filter    = selector { "," selector }
 *     selector  = fieldpath [ ( "==" | "!=" | "~=" ) value ]
 *     fieldpath = field { "." field }
 *     field     = "quoted" | word
 *     value     = "quoted" | run of visible characters without a comma; with ~= also /quoted/ and |quoted|
 *
 * Source: containerd, filters/parser.go (1.6) and pkg/filters/parser.go (2.x).
 */
import { Scanner, type Token } from './scanner.ts';
import { FilterSyntaxError } from './syntax-error.ts';
import { unquote } from './unquote.ts';

export type Operator = 'present' | '==' | '!=' | '~=';
export interface Selector {
  fieldPath: readonly string[];
  operator: Operator;
  /** Empty for `present`. */
  value: string;
}

/** All selectors must match; none for the empty filter. Throws FilterSyntaxError. */
export function parseFilter(input: string): Selector[] {
  if (input === '') return [];
  const scanner = new Scanner(input);
  const fail = (token: Token, problem: string) => new FilterSyntaxError(input, token.at, problem);

  const text = (token: Token, what: string, anyQuote: boolean): string => {
    if (token.kind === 'word') return token.text;
    if (token.kind !== 'quoted') throw fail(token, `expected ${what}`);
    if (token.quote !== '"' && !anyQuote) throw fail(token, 'this quote is allowed after ~= only');
    const value = unquote(token.raw, token.quote);
    if (value === undefined) throw fail(token, 'unknown escape in a quoted literal');
    return value;
  };

  const selectors: Selector[] = [];
  for (;;) {
    const fieldPath = [text(scanner.next(), 'a field', false)];
    while (scanner.peekChar() === '.') {
      scanner.next();
      fieldPath.push(text(scanner.next(), 'a field', false));
    }
    const next = scanner.peekChar();
    if (next === undefined || next === ',') {
      selectors.push({ fieldPath, operator: 'present', value: '' });
    } else {
      const token = scanner.next();
      const operator = token.kind === 'operator' ? token.text : '';
      if (operator !== '==' && operator !== '!=' && operator !== '~=')
        throw fail(token, 'expected an operator: ==, != or ~=');
      selectors.push({ fieldPath, operator, value: text(scanner.next(), 'a value', operator === '~=') });
    }
    const separator = scanner.peekChar();
    if (separator === undefined) return selectors;
    const token = scanner.next();
    if (separator !== ',') throw fail(token, 'expected a comma or the end');
  }
}
