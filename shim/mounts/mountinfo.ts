/** /proc/<pid>/mountinfo (proc(5)). */

/** Mount points at or below a directory, in mount order; a point with two mounts on it comes twice. */
export function mountPointsBelow(mountinfo: string, directory: string): string[] {
  const points: string[] = [];
  for (const line of mountinfo.split('\n')) {
    const point = line.split(' ')[4];
    if (point === undefined) continue;
    const path = unescapeOctal(point);
    if (path === directory || path.startsWith(`${directory}/`)) points.push(path);
  }
  return points;
}

/** Space, tab, newline and backslash are written as \040 and so on. */
export function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
