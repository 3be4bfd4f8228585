import type { EventMessage } from '#protocol';
import { createEmitter, isEqual, observe, once, type Readable } from './emitter.js';
import { maxAppliedIds } from './limits.js';
import type { ChannelStatus } from './status.js';

/** The part of the store that the app can see. */
export interface StoreView<State> {
  /** Returns the state as of the last notification: the same object until something changes. */
  readonly getState: () => State;
  /**
   * Calls `listener` with the state after changes: immediately when the status has changed, otherwise immediately for the first
   * change, then at most once per animation frame (16 ms if there are none). Returns the function that removes the
   * listener.
   */
  readonly subscribe: (listener: (state: State) => void) => () => void;
  /** The state in the form of a store of Svelte, or for `from` of Solid. */
  readonly store: Readable<State>;
  /** Calls `listener` once for every event, in order. Returns the function that removes the listener. */
  readonly onEvent: (listener: (event: EventMessage) => void) => () => void;
}

/** What a store contains: the state of a channel, or of the approvals feed. */
export interface Model<State, Content> {
  /** Returns the state. It is published and must not be modified afterwards. */
  createState(status: ChannelStatus, environment: string | null): State;
  /** Replaces everything that the snapshot contains. */
  replace(snapshot: Content): void;
  /** `isRepeated`: the event was applied to the contents that a snapshot has replaced. */
  apply(event: EventMessage, isRepeated?: boolean): void;
  /** Returns everything that has been applied, including changes without a notification yet, as parts of a snapshot. */
  contents(): Partial<Content>;
}

export interface Store<State, Content> {
  readonly view: StoreView<State>;
  setStatus(status: ChannelStatus, environment?: string | null): void;
  /**
   * Replaces everything that the snapshot contains, and the status with it: listeners never get one without the other.
   * `newerEvents` have been applied, and the snapshot may not contain them.
   */
  replace(
    snapshot: Content,
    status?: ChannelStatus,
    environment?: string | null,
    newerEvents?: readonly EventMessage[],
  ): void;
  /** Applies the event, unless an event with its id has been applied since the last snapshot. */
  apply(event: EventMessage): void;
}

/** Creates a store, which publishes the state of the model. */
export function createStore<State, Content>(
  model: Model<State, Content>,
  onError: (error: unknown) => void,
): Store<State, Content> {
  const [subscribe, emitChange] = createEmitter(onError);
  const [onEvent, emitEvent] = createEmitter<EventMessage>(onError);
  /** The ids of the applied events, in order. */
  const applied = new Set<string>();
  let status: ChannelStatus = { state: 'connecting' };
  let environment: string | null = null;
  let state = model.createState(status, environment);
  let isChanged = false;
  let isIdle = true;

  const publish = (): void => {
    isChanged = false;
    state = model.createState(status, environment);
    emitChange();
  };
  // The first change is published immediately, so that the effect of a click does not wait for a frame. Changes
  // within a frame are published together at its end, so a burst costs one rendering per frame.
  const endFrame = (): void => {
    isIdle = !isChanged;
    if (isIdle) return;
    afterFrame(endFrame);
    publish();
  };
  const notify = (): void => {
    isChanged = true;
    if (isIdle) endFrame();
  };

  return {
    view: { getState: () => state, ...observe(() => state, subscribe), onEvent },
    setStatus(nextStatus, key = null) {
      if (isEqual([status, environment], [nextStatus, key])) return;
      status = nextStatus;
      environment = key;
      notify();
      // Also a status that lasts for less than a frame.
      if (isChanged) publish();
    },
    replace(snapshot, nextStatus = status, key = environment, newerEvents) {
      status = nextStatus;
      environment = key;
      model.replace(snapshot);
      // Without a cursor, the database may have been restored, and give the same ids to other events.
      if (!newerEvents) applied.clear();
      else for (const event of newerEvents) model.apply(event, true);
      notify();
    },
    apply(event) {
      if (applied.has(event.id)) return;
      applied.add(event.id);
      if (applied.size > maxAppliedIds) applied.delete(applied.keys().next().value as string);
      model.apply(event);
      emitEvent(event);
      notify();
    },
  };
}

/** Calls `run` once, at the next animation frame; after 16 ms if there are no animation frames. */
function afterFrame(run: () => void): void {
  const { requestAnimationFrame } = globalThis as Partial<AnimationFrameProvider>;
  const runOnce = once(run);
  requestAnimationFrame?.(runOnce);
  // A hidden page gets no animation frames, so a timer calls it after 250 ms.
  setTimeout(runOnce, requestAnimationFrame ? 250 : 16);
}
