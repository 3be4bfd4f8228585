import type { ReactNode } from 'react';

interface EmptyStateProps {
  readonly icon: ReactNode;
  readonly title: string;
  readonly text: string;
  /** Buttons. */
  readonly children?: ReactNode;
}

/** Explains why a list is empty. */
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
