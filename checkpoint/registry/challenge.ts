/** One challenge of a WWW-Authenticate header. Names are lower case. */
export interface Challenge {
  scheme: string;
  parameters: Readonly<Record<string, string>>;
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const schemePattern = new RegExp(`^(${token})(?:[ \\t]+|$)`);
const parameterPattern = new RegExp(`^(${token})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))`);

/**
 * Parses WWW-Authenticate: RFC 9110 §11.6.1. Several challenges may share one header. What cannot be parsed is left
 * out.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  for (const line of typeof header === 'string' ? [header] : (header ?? [])) {
    let rest = line.slice(0, 8192).trim();
    let parameters: Record<string, string> | undefined;
    while (rest.length > 0) {
      const parameter = parameters && parameterPattern.exec(rest);
      if (parameter && parameters) {
        const [whole, name = '', quoted, plain] = parameter;
        parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
        rest = rest.slice(whole.length);
      } else {
        const scheme = schemePattern.exec(rest);
        if (!scheme) break;
        parameters = Object.create(null) as Record<string, string>;
        challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters });
        rest = rest.slice(scheme[0].length);
      }
      rest = rest.replace(/^[ \t]*,?[ \t]*/, '');
    }
  }
  return challenges;
}
