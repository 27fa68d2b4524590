/**
 * Regular expressions as Go has them (regexp/syntax): without look-around and back-references, in time linear in the
 * value. JavaScript's own take some that Go does not, and can take for ever.
 */
import { RE2JS, RE2JSException } from 're2js';

/** Holds for a value of which some part matches. containerd logs a broken expression, and matches nothing. */
export function compilePattern(source: string): (value: string) => boolean {
  try {
    const pattern = RE2JS.compile(source);
    return (value) => pattern.test(value);
  } catch (error) {
    if (error instanceof RE2JSException) return () => false;
    throw error;
  }
}
