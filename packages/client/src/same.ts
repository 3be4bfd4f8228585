/** Whether two JSON values are equal, the order of their keys included. */
export function same(one: unknown, other: unknown): boolean {
  try {
    return JSON.stringify(one) === JSON.stringify(other);
  } catch {
    // Nested too deeply to be written: taken for another one, it is shown once more.
    return false;
  }
}
