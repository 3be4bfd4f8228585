/** Whether both are the same, or are two lists, maps or plain objects of the same elements. */
export function shallowEqual(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  const entries = entriesOf(one);
  const others = entriesOf(other);
  if (!entries || !others || prototypeOf(one) !== prototypeOf(other)) return false;
  // The order counts too: a list of a map's elements shows it.
  return (
    entries.length === others.length &&
    entries.every(([key, value], index) => {
      const [otherKey, otherValue] = others[index] as [unknown, unknown];
      return Object.is(key, otherKey) && Object.is(value, otherValue);
    })
  );
}

function entriesOf(value: unknown): [unknown, unknown][] | null {
  if (typeof value !== 'object' || value === null) return null;
  if (value instanceof Map) return [...(value as Map<unknown, unknown>)];
  if (Array.isArray(value)) return [...value.entries()];
  const prototype = prototypeOf(value);
  return prototype === Object.prototype || prototype === null ? Object.entries(value) : null;
}

function prototypeOf(value: unknown): unknown {
  return Object.getPrototypeOf(value) as unknown;
}
