/**
 * Creates a list of listeners and returns `[subscribe, emit]`. `subscribe` returns the function that removes the
 * listener. An exception from a listener is passed to `onError`; the other listeners still run.
 */
export function createEmitter<Value = void>(
  onError: (error: unknown) => void,
): readonly [subscribe: (listener: (value: Value) => void) => () => void, emit: (value: Value) => void] {
  // The same function may subscribe several times.
  const listeners = new Map<object, (value: Value) => void>();
  return [
    (listener) => {
      const key = {};
      listeners.set(key, listener);
      return () => void listeners.delete(key);
    },
    (value) => {
      // Iterate over a copy: a listener that removes and adds itself would otherwise run forever.
      for (const key of [...listeners.keys()]) {
        try {
          // A previous listener may have removed it.
          listeners.get(key)?.(value);
        } catch (error) {
          onError(error);
        }
      }
    },
  ];
}

/** Returns a function that calls `run` the first time. */
export function once(run: () => void): () => void {
  let isDue = true;
  return () => {
    if (!isDue) return;
    isDue = false;
    run();
  };
}

/** A store of Svelte, also for `from` of Solid: `run` is called at once, and with each new state. */
export interface Readable<State> {
  /** Returns the function that removes `run`. */
  readonly subscribe: (run: (state: State) => void) => () => void;
}

/** Returns the two ways to follow a state: with and without a call for the current one. */
export function observe<State>(
  getState: () => State,
  onChange: (listener: () => void) => () => void,
): { readonly subscribe: Readable<State>['subscribe']; readonly store: Readable<State> } {
  const subscribe: Readable<State>['subscribe'] = (listener) => onChange(() => listener(getState()));
  return {
    subscribe,
    store: {
      subscribe(run) {
        run(getState());
        return subscribe(run);
      },
    },
  };
}

/** Whether two JSON values are equal, including the order of their keys. Listeners are not called for equal values. */
export function isEqual(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Returns `next` with the values of `before` where they are equal; `before` if all are. */
export function reuse<Value, Before extends ReadonlyMap<string, Value>>(
  before: Before,
  next: Before & Map<string, Value>,
): Before {
  let isSame = before.size === next.size;
  for (const [key, value] of next) {
    const known = before.get(key);
    if (known && isEqual(known, value)) next.set(key, known);
    else isSame = false;
  }
  return isSame ? before : next;
}
