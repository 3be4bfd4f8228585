import type { ReactNode } from 'react';

interface EmptyStateProps {
  readonly icon: ReactNode;
  readonly title: string;
  readonly text: string;
  /** What can be done about it. */
  readonly children?: ReactNode;
}

/** Where a list would be, why there is none. */
export function EmptyState({ icon, title, text, children }: EmptyStateProps) {
  return (
    <div className="fc-empty">
      <span className="fc-empty-icon">{icon}</span>
      <strong>{title}</strong>
      <span>{text}</span>
      {children}
    </div>
  );
}
