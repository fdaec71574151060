// Points to begin with: a wave with a gap, calm on the left and noisy on the right; the same each time.

export function examplePoints() {
  let word = 7;
  const uniform = () => {
    word = (word * 1103515245 + 12345) % 2147483648;
    return word / 2147483648;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const wave = (x, noise) => [Number(x.toFixed(2)), Number((1.2 * Math.sin(1.3 * x) + 0.15 * x + noise * normal()).toFixed(2))];
  const calm = Array.from({ length: 14 }, (_, k) => wave(-3.6 + 0.2 * k, 0.06));
  const noisy = Array.from({ length: 20 }, (_, k) => wave(1.0 + 0.125 * k, 0.32));
  return [...calm, ...noisy];
}
