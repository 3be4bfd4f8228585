import type { ControlMessage, EventMessage } from '@flagcast/protocol';
import { MessageLog } from '../message-log.ts';

type ControlType = ControlMessage['type'];
type Control<Type extends ControlType> = Extract<ControlMessage, { type: Type }>;

/** A connection that keeps the received messages, of any dialect and transport. */
export abstract class MessageClient<Message extends object> implements AsyncDisposable {
  protected readonly log = new MessageLog<Message>();

  abstract close(): Promise<void>;

  get messages(): readonly Message[] {
    return this.log.messages;
  }

  /** The messages without heartbeats, which arrive at any time. */
  get withoutHeartbeats(): Message[] {
    return this.messages.filter((message) => !('type' in message && message.type === 'heartbeat'));
  }

  get events(): (Message & EventMessage)[] {
    return this.messages.filter(isEvent);
  }

  /** Resolves with the first past or future message from index `from` on that matches. */
  async message(fits: (message: Message) => boolean, from = 0): Promise<Message> {
    return await this.log.find(fits, from);
  }

  /** Resolves with the first event about the entity. */
  async event(entityId: string): Promise<EventMessage> {
    return (await this.message(
      (message) => isEvent(message) && message.entity_id === entityId,
    )) as unknown as EventMessage;
  }

  /** Resolves with the first control message of this type from index `from` on. */
  async control<Type extends ControlType>(type: Type, from = 0): Promise<Control<Type>> {
    return await this.firstControl([type], from);
  }

  /** Resolves with the first control message of these types from index `from` on. */
  protected async firstControl<Type extends ControlType>(
    types: readonly Type[],
    from: number,
  ): Promise<Control<Type>> {
    const fits = (message: Message): boolean =>
      !isEvent(message) && 'type' in message && (types as readonly unknown[]).includes(message.type);
    return (await this.message(fits, from)) as unknown as Control<Type>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function isEvent<Message extends object>(message: Message): message is Message & EventMessage {
  return 'source' in message;
}
