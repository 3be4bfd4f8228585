import type { Channel, EventMessage } from '@flagcast/client';
import { useEffect, useState } from 'react';

/** The value, or while `frozen` the previous one. A new `key` updates it once. */
export function useFrozen<Value>(value: Value, frozen: boolean, key: unknown): Value {
  const [shown, setShown] = useState({ value, key });
  if (shown.value === value || (frozen && shown.key === key)) return shown.value;
  setShown({ value, key });
  return value;
}

/** The number of events since `counting` changed; 0 while it is false or 0. `counts`, if given, must stay the same function. */
export function useEventCount(
  channel: Channel,
  counting: boolean | number,
  counts?: (event: EventMessage) => boolean,
): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    setCount(0);
    if (counting === false || counting === 0) return;
    return channel.onEvent((event) => {
      if (counts?.(event) !== false) setCount((before) => before + 1);
    });
  }, [channel, counting, counts]);
  return count;
}
