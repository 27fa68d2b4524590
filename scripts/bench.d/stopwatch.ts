/** Says how long each step of a bench took, since the step before. */
export function stopwatch(progress: (line: string) => void): (step: string) => void {
  let began = performance.now();
  return (step) => {
    progress(`${step}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
    began = performance.now();
  };
}
